// What only tests and benchmarks use: every kernel table by name, one kernel at a time.
#pragma once

#include <string>

namespace nanobind {
class module_;
}

namespace bert_rt {

double measure_peak(const std::string& isa, double seconds);
void bind_testing(nanobind::module_ m);

} // namespace bert_rt
