// ranks.h in a build without MPI.
#include <cstdlib>

#include "base/error.h"
#include "compress/ranks.h"

namespace mobe {

struct Ranks::State {};

std::unique_ptr<Ranks> Ranks::Join() {
  // As Open MPI, and as MPICH and Slurm's PMI, tell the number.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* size = std::getenv(name);
    if (size == nullptr || std::atoi(size) < 2) continue;
    Fail(ErrorKind::kUserInput,
         "started as one of {} ranks, but this build of mobe has no MPI; "
         "configure with -DMOBE_MPI=ON, or use --shard i/N and mobe merge",
         size);
  }
  return nullptr;
}

Ranks::Ranks(std::unique_ptr<State> state) : state_(std::move(state)) {}
Ranks::~Ranks() = default;
int Ranks::rank() const { return 0; }
int Ranks::size() const { return 1; }
int Ranks::threads() const { return 1; }
int Ranks::place() const { return 0; }
std::string Ranks::name() const { return "rank 0"; }
void Ranks::Send(int, const Json&) {}
std::optional<Message> Ranks::Receive(double) { return std::nullopt; }
bool Ranks::ended() const { return false; }
bool Ranks::abandoned() const { return false; }
std::vector<Message> Ranks::Close() { return {}; }

}  // namespace mobe
