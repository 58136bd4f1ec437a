// What CUDA's text needs to be C++ of a processor: a block is a set of threads that wait for each
// other, blocks run one after another.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>

#define __global__
#define __shared__ static
#define alignas(bytes)  // C++ wants it before `static`
#define __launch_bounds__(threads)
#define __restrict__

struct place {
  int x, y;
};
static thread_local place threadIdx, blockIdx;
static std::barrier<> *everyone;
using std::max;
using std::min;

static inline void __syncthreads() { everyone->arrive_and_wait(); }

static inline int __dp4a(int a, int b, int total) {
  for (int byte = 0; byte < 32; byte += 8)
    total += static_cast<signed char>(a >> byte) * static_cast<signed char>(b >> byte);
  return total;
}

template <typename Kernel>
static void launch(place grid, int threads, Kernel kernel) {
  std::barrier<> barrier(threads);
  everyone = &barrier;
  std::vector<std::thread> running;
  for (int thread = 0; thread < threads; ++thread)
    running.emplace_back([=] {
      for (int y = 0; y < grid.y; ++y)
        for (int x = 0; x < grid.x; ++x) {
          threadIdx = {thread, 0};
          blockIdx = {x, y};
          kernel();
          __syncthreads();
        }
    });
  for (auto &thread : running) thread.join();
}
