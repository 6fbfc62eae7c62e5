// The 5,812 characters of Unicode 15.1 and 16.0, by general category.
//
// Debian 12's ICU knows Unicode 15.0; the Oniguruma in Hugging Face's
// `tokenizers` 0.22 knows 16.0, to which these are what is missing. (Found by
// asking both for the category of every code point; the categories not named
// have no new ones.)
#pragma once

#include <unicode/uchar.h>

#include <cstdint>
#include <string>

namespace mobe {

struct NewCharacters {
  uint32_t category;    // U_GC_..._MASK
  const char* members;  // as within the brackets of an ICU pattern
};

inline constexpr NewCharacters kNewCharacters[] = {
    {U_GC_LU_MASK, R"(\u1C89\uA7CB\uA7CC\uA7DA\uA7DC\x{10D50}-\x{10D65})"},
    {U_GC_LL_MASK, R"(\u1C8A\uA7CD\uA7DB\x{10D70}-\x{10D85})"},
    {U_GC_LM_MASK,
     R"(\x{10D4E}\x{10D6F}\x{16D40}-\x{16D42}\x{16D6B}\x{16D6C})"},
    {U_GC_LO_MASK,
     R"(\x{105C0}-\x{105F3}\x{10D4A}-\x{10D4D}\x{10D4F})"
     R"(\x{10EC2}-\x{10EC4}\x{11380}-\x{11389}\x{1138B}\x{1138E})"
     R"(\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
     R"(\x{11BC0}-\x{11BE0}\x{13460}-\x{143FA}\x{16100}-\x{1611D})"
     R"(\x{16D43}-\x{16D6A}\x{18CFF}\x{1E5D0}-\x{1E5ED}\x{1E5F0})"
     R"(\x{2EBF0}-\x{2EE5D})"},
    {U_GC_MN_MASK,
     R"(\u0897\x{10D69}-\x{10D6D}\x{10EFC}\x{113BB}-\x{113C0})"
     R"(\x{113CE}\x{113D0}\x{113D2}\x{113E1}\x{113E2}\x{11F5A})"
     R"(\x{1611E}-\x{16129}\x{1612D}-\x{1612F}\x{1E5EE}\x{1E5EF})"},
    {U_GC_MC_MASK, R"(\x{113B8}-\x{113BA}\x{113C2}\x{113C5}\x{113C7}-\x{113CA})"
                   R"(\x{113CC}\x{113CD}\x{113CF}\x{1612A}-\x{1612C})"},
    {U_GC_ND_MASK,
     R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9})"
     R"(\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9})"
     R"(\x{1E5F1}-\x{1E5FA})"},
    {U_GC_PD_MASK, R"(\x{10D6E})"},
    {U_GC_PO_MASK, R"(\u1B4E\u1B4F\u1B7F\x{113D4}\x{113D5}\x{113D7}\x{113D8})"
                   R"(\x{11BE1}\x{16D6D}-\x{16D6F}\x{1E5FF})"},
    {U_GC_SM_MASK, R"(\x{10D8E}\x{10D8F})"},
    {U_GC_SO_MASK,
     R"(\u2427-\u2429\u2FFC-\u2FFF\u31E4\u31E5\u31EF)"
     R"(\x{1CC00}-\x{1CCEF}\x{1CD00}-\x{1CEB3}\x{1F8B2}-\x{1F8BB})"
     R"(\x{1F8C0}\x{1F8C1}\x{1FA89}\x{1FA8F}\x{1FABE}\x{1FAC6})"
     R"(\x{1FADC}\x{1FADF}\x{1FAE9}\x{1FBCB}-\x{1FBEF})"},
};

// Those of them that are in the script Han.
inline constexpr const char* kNewHan = R"(\x{2EBF0}-\x{2EE5D})";

// The characters of the categories (U_GC_..._MASK) that ICU does not know yet,
// as within the brackets of a pattern.
inline std::string NewMembers(uint32_t categories) {
  std::string members;
  for (const auto& row : kNewCharacters) {
    if ((row.category & categories) != 0) members += row.members;
  }
  return members;
}

}  // namespace mobe
