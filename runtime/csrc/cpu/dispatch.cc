// Chooses a kernel table once, when an engine opens.
#include "cpu/cpu_features.h"

#include <cstdlib>
#include <stdexcept>

namespace bert_rt {
namespace {

struct Candidate {
  const char* name;
  const Kernels* (*table)() noexcept;
  bool (*runs)(const CpuFeatures&);
};

bool runs_avx512bw(const CpuFeatures& f) {
  return f.fma && f.avx2 && f.avx512f && f.avx512bw && f.avx512dq && f.avx512vl;
}
bool runs_avx512vnni(const CpuFeatures& f) { return runs_avx512bw(f) && f.avx512vnni; }

[[maybe_unused]] const Kernels* no_table() noexcept { return nullptr; }

bool runs_amx_int8(const CpuFeatures& f) { return runs_avx512vnni(f) && f.amx_tile && f.amx_int8; }
bool runs_avx2(const CpuFeatures& f) { return f.fma && f.avx2; }
bool runs_neon_dotprod(const CpuFeatures& f) { return f.dotprod; }
bool runs_neon_i8mm(const CpuFeatures& f) { return f.dotprod && f.i8mm; }
bool runs_avxvnni(const CpuFeatures& f) { return runs_avx2(f) && f.avxvnni; }

// Best first.
constexpr Candidate kCandidates[] = {
#if defined(BERT_RT_AMX)
    {"amx_int8", amx_int8_kernels, runs_amx_int8},
#else
    {"amx_int8", no_table, runs_amx_int8},
#endif
#if defined(BERT_RT_X86)
    {"avx512vnni", avx512vnni_kernels, runs_avx512vnni},
#else
    {"avx512vnni", no_table, runs_avx512vnni},
#endif
#if defined(BERT_RT_AVXVNNI)
    {"avxvnni", avxvnni_kernels, runs_avxvnni},
#else
    {"avxvnni", no_table, runs_avxvnni},
#endif
#if defined(BERT_RT_X86)
    {"avx512bw", avx512bw_kernels, runs_avx512bw},
    {"avx2", avx2_kernels, runs_avx2},
#else
    {"avx512bw", no_table, runs_avx512bw},
    {"avx2", no_table, runs_avx2},
#endif
#if defined(BERT_RT_I8MM)
    {"neon_i8mm", neon_i8mm_kernels, runs_neon_i8mm},
#else
    {"neon_i8mm", no_table, runs_neon_i8mm},
#endif
#if defined(BERT_RT_ARM64)
    {"neon_dotprod", neon_dotprod_kernels, runs_neon_dotprod},
#else
    {"neon_dotprod", no_table, runs_neon_dotprod},
#endif
    {"scalar", scalar_kernels, [](const CpuFeatures&) { return true; }},
};

} // namespace

std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> tables;
  for (const Candidate& c : kCandidates)
    if (c.table() != nullptr && c.runs(cpu_features())) tables.push_back(c.table());
  return tables;
}

const Kernels& select_kernels(const std::string& name) {
  std::string wanted = name;
  const char* forced = std::getenv("BERT_RT_ISA");
  const bool from_environment = wanted.empty() && forced != nullptr && *forced != '\0';
  if (from_environment) wanted = forced;
  const std::string field = from_environment ? "BERT_RT_ISA" : "isa";
  if (wanted.empty()) return *supported_kernels().front();
  std::string known;
  for (const Candidate& c : kCandidates) {
    known += known.empty() ? c.name : std::string(", ") + c.name;
    if (wanted != c.name) continue;
    if (c.table() == nullptr)
      throw std::runtime_error(field + ": '" + wanted + "' is not compiled into this build");
    if (!c.runs(cpu_features()))
      throw std::runtime_error(field + ": this machine cannot run '" + wanted + "'");
    return *c.table();
  }
  throw std::runtime_error(field + ": got '" + wanted + "', want one of " + known);
}

} // namespace bert_rt
