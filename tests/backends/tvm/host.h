// What the text for a GPU needs to be C++ of a processor: a block is a set of threads that wait for
// each other, blocks run one after another.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

struct uint2 {
  unsigned x, y;
};
static thread_local uint2 here, block;
static std::barrier<> *everyone;
using std::max;
using std::min;

template <typename Kernel>
static void launch(unsigned blocks_x, unsigned blocks_y, int threads, Kernel kernel) {
  std::barrier<> barrier(threads);
  everyone = &barrier;
  std::vector<std::thread> running;
  for (unsigned number = 0; number < static_cast<unsigned>(threads); ++number)
    running.emplace_back([=] {
      for (unsigned y = 0; y < blocks_y; ++y)
        for (unsigned x = 0; x < blocks_x; ++x) {
          here = {number, 0};
          block = {x, y};
          kernel();
          everyone->arrive_and_wait();
        }
    });
  for (auto &one : running) one.join();
}

#ifdef CUDA
#define __global__
#define __shared__ static
#define alignas(bytes)  // C++ wants it before `static`
#define __launch_bounds__(threads)
#define __restrict__
#define threadIdx here
#define blockIdx block

static inline void __syncthreads() { everyone->arrive_and_wait(); }

static inline int __dp4a(int a, int b, int total) {
  for (int byte = 0; byte < 32; byte += 8)
    total += static_cast<signed char>(a >> byte) * static_cast<signed char>(b >> byte);
  return total;
}
#endif

#ifdef METAL
namespace metal {}
enum class mem_flags { mem_threadgroup };

static inline void threadgroup_barrier(mem_flags) { everyone->arrive_and_wait(); }

template <typename To, typename From>
static inline To as_type(From value) {
  To made;
  std::memcpy(&made, &value, sizeof made);
  return made;
}

template <typename Number>
static inline Number select(Number no, Number yes, bool condition) {
  return condition ? yes : no;
}

using std::rint;
#define kernel
#define device
#define constant const
#define thread
#define threadgroup static
#endif
