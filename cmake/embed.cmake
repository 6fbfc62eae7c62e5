# cmake -DOUT=embedded_files.cc "-DFILES=a;b" -P embed.cmake: writes the C++ source
# that holds the files' bytes (src/base/embedded.h).
file(WRITE ${OUT} "#include \"base/embedded.h\"\n\n#include <cstddef>\n\nnamespace mobe {\nnamespace {\n")
set(rows "")
set(number 0)
foreach(path ${FILES})
  file(READ ${path} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(...............................................................................)," "\\1,\n" bytes "${bytes}")
  cmake_path(GET path FILENAME name)
  file(APPEND ${OUT} "\nconstexpr unsigned char kFile${number}[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"${name}\", kFile${number}, sizeof(kFile${number})},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(APPEND ${OUT} "
struct File {
  std::string_view name;
  const unsigned char* bytes;
  std::size_t size;
};
constexpr File kFiles[] = {
${rows}};

}  // namespace

std::string_view EmbeddedFile(std::string_view name) {
  for (const File& file : kFiles) {
    if (file.name == name) {
      return {reinterpret_cast<const char*>(file.bytes), file.size};
    }
  }
  return {};
}

}  // namespace mobe
")
