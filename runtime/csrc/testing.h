// What only tests and benchmarks use: every kernel table by name, one kernel at a time.
#pragma once

#include <string>

namespace nanobind {
class module_;
}

namespace bert_rt {

double measure_peak(const std::string& isa, double seconds);
// Instructions a cycle that this thread's core takes from it, by nops: fewer where another thread
// of the same core is busy. 0 where it cannot be measured.
double measure_issue_width();
void bind_testing(nanobind::module_ m);

} // namespace bert_rt
