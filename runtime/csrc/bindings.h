// What the files of the Python module share.
#pragma once

#include <cstdint>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <string>
#include <vector>

namespace bert_rt {

namespace nb = nanobind;

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Hands a new array of zeros to NumPy.
template <class T>
nb::object make_array(const std::vector<size_t>& shape, T*& data) {
  size_t count = 1;
  for (const size_t s : shape) count *= s;
  data = new T[count + 1]();
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner));
}

// Messages may quote names from a damaged file: Python wants valid UTF-8, a terminal no controls.
inline std::string printable(std::string text) {
  constexpr size_t kLongest = 400;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  for (char& c : text)
    if (c < ' ' || c > '~') c = '?';
  return text;
}

void bind_encoder_decoder(nb::module_& m);

} // namespace bert_rt
