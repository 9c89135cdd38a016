// What every generated or template library may ask of its host: one thread pool, per-thread scratch memory, and the
// templates that were compiled once for this machine. Filled by pool.cpp; libraries get it through `attach`.
typedef long i64;
typedef void (*RangeFn)(void* context, i64 begin, i64 end);

struct GemmArgs;
struct AttentionArgs;
struct ConvArgs;

struct Runtime {
  // Calls fn(context, begin, end) over disjoint ranges that cover [0, n); ranges start at multiples of `grain`.
  void (*parallel_for)(RangeFn fn, void* context, i64 n, i64 grain);
  i64 (*num_threads)();
  // Memory of the calling thread, at least `bytes` long and 64-byte aligned, kept until asked for again by `slot`.
  void* (*scratch)(i64 slot, i64 bytes);
  void (*gemm[4])(const GemmArgs*);  // by element type: f32, f64, bf16, f16
  void (*attention)(const AttentionArgs*);
  void (*conv)(const ConvArgs*);
};

// Scratch slots. A template may call another one, so each has slots of its own.
enum { SLOT_PACK_A, SLOT_PACK_B, SLOT_TILE, SLOT_ATTENTION, SLOT_CONV, SLOT_CONV_PACK, SLOT_CONV_TILE, SLOT_USER,
       SLOTS };
