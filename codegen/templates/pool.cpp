// The one thread pool. Chunks are handed out from a counter, smaller and smaller ones towards the end, so that threads
// of unequal speed end together. The caller waits only for workers that have taken one: a worker the system has put
// aside costs nothing. Nested and concurrent calls run on the calling thread.
#include <pthread.h>
#include <stdlib.h>

#include "runtime.h"

namespace {

const int MAX_THREADS = 256;
const int SPINS = 4000;          // about 50 us of waiting for the next job before a worker goes to sleep
const int SHARES_PER_THREAD = 2;  // a chunk is what is left over this many times the threads

struct Job {
  RangeFn fn;
  void* context;
  i64 n, grain;
};

Job job;
i64 next_index;    // first index that nobody has taken
int job_open;      // workers may join
int workers_in;    // workers that are looking at the job
unsigned epoch;    // counts jobs; sleeping workers wait for it to change
int sleepers;
int started;       // worker threads that exist
int threads = 1;   // threads in use, the caller included
int busy;          // a job is being run by some caller
pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t sleep_signal = PTHREAD_COND_INITIALIZER;
thread_local bool inside;

template <class T> T get(T& place) { return __atomic_load_n(&place, __ATOMIC_SEQ_CST); }
template <class T> void set(T& place, T value) { __atomic_store_n(&place, value, __ATOMIC_SEQ_CST); }
template <class T> T add(T& place, T value) { return __atomic_fetch_add(&place, value, __ATOMIC_SEQ_CST); }

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void take_chunks() {
  inside = true;
  i64 shares = SHARES_PER_THREAD * (i64)get(threads), begin = get(next_index);
  while (begin < job.n) {
    i64 grains = (job.n - begin) / shares / job.grain, end = begin + (grains > 1 ? grains : 1) * job.grain;
    if (end > job.n) end = job.n;
    if (!__atomic_compare_exchange_n(&next_index, &begin, end, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) continue;
    job.fn(job.context, begin, end);
    begin = get(next_index);
  }
  inside = false;
}

unsigned wait_for_change(unsigned seen) {
  for (int spin = 0; spin < SPINS; spin++) {
    if (get(epoch) != seen) return get(epoch);
    pause();
  }
  pthread_mutex_lock(&sleep_lock);
  add(sleepers, 1);
  while (get(epoch) == seen) pthread_cond_wait(&sleep_signal, &sleep_lock);
  add(sleepers, -1);
  pthread_mutex_unlock(&sleep_lock);
  return get(epoch);
}

void* worker(void* index) {
  unsigned seen = 0;
  for (;;) {
    seen = wait_for_change(seen);
    if ((i64)index >= get(threads)) continue;  // parked by set_threads
    add(workers_in, 1);
    if (get(job_open)) take_chunks();
    add(workers_in, -1);
  }
  return 0;
}

void start_workers() {
  while (started < threads - 1) {
    pthread_t thread;
    if (pthread_create(&thread, 0, worker, (void*)(i64)(started + 1))) {
      set(threads, started + 1);
      return;
    }
    pthread_detach(thread);
    started++;
  }
}

// A forked child has none of its parent's workers, and locks may be held by threads that are gone.
void after_fork_in_child() {
  threads = 1;
  started = sleepers = workers_in = job_open = busy = 0;
  inside = false;
  pthread_mutex_init(&sleep_lock, 0);
  pthread_cond_init(&sleep_signal, 0);
}

void parallel_for(RangeFn fn, void* context, i64 n, i64 grain) {
  if (n <= 0) return;
  int free_pool = 0;
  if (get(threads) <= 1 || n <= grain || inside ||
      !__atomic_compare_exchange_n(&busy, &free_pool, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    fn(context, 0, n);
    return;
  }
  start_workers();
  job = {fn, context, n, grain < 1 ? 1 : grain};
  set(next_index, (i64)0);
  set(job_open, 1);
  add(epoch, 1u);
  if (get(sleepers)) {
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&sleep_signal);
    pthread_mutex_unlock(&sleep_lock);
  }
  take_chunks();
  set(job_open, 0);
  while (get(workers_in)) pause();
  set(busy, 0);
}

i64 num_threads() { return inside ? 1 : get(threads); }

struct Buffers {
  void* data[SLOTS];
  i64 size[SLOTS];
  ~Buffers() {
    for (int slot = 0; slot < SLOTS; slot++) free(data[slot]);
  }
};
thread_local Buffers buffers;

void* scratch(i64 slot, i64 bytes) {
  if (buffers.size[slot] < bytes) {
    i64 rounded = (bytes + bytes / 4 + 4095) / 4096 * 4096;
    free(buffers.data[slot]);
    buffers.data[slot] = aligned_alloc(4096, rounded);
    if (!buffers.data[slot]) abort();
    buffers.size[slot] = rounded;
  }
  return buffers.data[slot];
}

Runtime table = {parallel_for, num_threads, scratch, {}, 0, 0};
int registered = pthread_atfork(0, 0, after_fork_in_child);

}  // namespace

extern "C" Runtime* runtime_table() { return &table; }

extern "C" void set_threads(i64 count) {
  set(threads, (int)(count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : count));
}

extern "C" i64 get_threads() { return get(threads); }
