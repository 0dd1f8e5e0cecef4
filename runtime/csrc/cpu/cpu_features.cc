#include "cpu/cpu_features.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#if defined(__APPLE__) && defined(__aarch64__)
#include <sys/sysctl.h>
#endif

namespace bert_rt {
namespace {

#if defined(__x86_64__)
bool bit(unsigned word, int index) { return ((word >> index) & 1u) != 0; }

uint64_t enabled_states() {
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Linux gives out the 8 KiB of tile data only on request.
bool request_tiles() {
#if defined(__linux__)
  constexpr long kArchReqXcompPerm = 0x1023, kXfeatureXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
#else
  return false;
#endif
}

CpuFeatures detect() {
  CpuFeatures f;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !bit(c, 27)) return f; // no OSXSAVE
  const bool fma = bit(c, 12);
  const uint64_t states = enabled_states();
  const bool ymm = (states & 0x6u) == 0x6u, zmm = (states & 0xe6u) == 0xe6u;
  const bool tiles = (states & 0x60000u) == 0x60000u;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return f;
  f.fma = ymm && fma;
  f.avx2 = ymm && bit(b, 5);
  f.avx512f = zmm && bit(b, 16);
  f.avx512dq = zmm && bit(b, 17);
  f.avx512bw = zmm && bit(b, 30);
  f.avx512vl = zmm && bit(b, 31);
  f.avx512vnni = zmm && bit(c, 11);
  const bool has_tile = bit(d, 24), has_tile_int8 = bit(d, 25);
  if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) f.avxvnni = ymm && bit(a, 4);
  if (tiles && has_tile && request_tiles()) {
    f.amx_tile = true;
    f.amx_int8 = has_tile_int8;
  }
  return f;
}
#elif defined(__aarch64__) && defined(__linux__)
// The kernel's numbers, for headers that are older than they.
constexpr unsigned long kHwcapDotprod = 1ul << 20, kHwcap2I8mm = 1ul << 13;
#if defined(HWCAP_ASIMDDP)
static_assert(kHwcapDotprod == HWCAP_ASIMDDP);
#endif
#if defined(HWCAP2_I8MM)
static_assert(kHwcap2I8mm == HWCAP2_I8MM);
#endif

CpuFeatures detect() {
  CpuFeatures f;
  f.dotprod = (getauxval(AT_HWCAP) & kHwcapDotprod) != 0;
  f.i8mm = (getauxval(AT_HWCAP2) & kHwcap2I8mm) != 0;
  return f;
}
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

CpuFeatures detect() {
  CpuFeatures f;
  f.dotprod = has("hw.optional.arm.FEAT_DotProd");
  f.i8mm = has("hw.optional.arm.FEAT_I8MM");
  return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

} // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::vector<std::string> feature_names() {
  const CpuFeatures& f = cpu_features();
  std::vector<std::string> names;
  const auto add = [&names](bool has, const char* name) {
    if (has) names.emplace_back(name);
  };
  add(f.fma, "fma");
  add(f.avx2, "avx2");
  add(f.avxvnni, "avxvnni");
  add(f.avx512f, "avx512f");
  add(f.avx512bw, "avx512bw");
  add(f.avx512dq, "avx512dq");
  add(f.avx512vl, "avx512vl");
  add(f.avx512vnni, "avx512vnni");
  add(f.amx_tile, "amx_tile");
  add(f.amx_int8, "amx_int8");
  add(f.dotprod, "dotprod");
  add(f.i8mm, "i8mm");
  return names;
}

} // namespace bert_rt
