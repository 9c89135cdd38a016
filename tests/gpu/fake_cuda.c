/* A libcuda for tests: every call appends one line to the file named by FAKE_CUDA_LOG. A "module" is a text that
   begins with the parameter types of its one function ("p i d f ..."), which cuLaunchKernel uses to print values; for
   real binaries FAKE_CUDA_TYPES gives them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char types[64];
static int fail_launch;

static void note(const char *line) {
    const char *path = getenv("FAKE_CUDA_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    fprintf(log, "%s\n", line);
    fclose(log);
}

int cuInit(unsigned flags) { (void)flags; note("init"); return getenv("FAKE_CUDA_NO_DEVICE") ? 100 : 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { (void)device; snprintf(name, size, "Paper GPU"); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = (void *)0x77; return 0; }
int cuCtxSetCurrent(void *context) { return context == (void *)0x77 ? 0 : 201; }
int cuCtxSynchronize(void) { note("synchronize"); return 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 232448 : attribute == 16 ? 132 : -1;
    return 0;
}

int cuModuleLoadData(void **module, const char *image) {
    if (!strncmp(image, "broken", 6)) return 200;
    snprintf(types, sizeof types, "%s", getenv("FAKE_CUDA_TYPES") ? getenv("FAKE_CUDA_TYPES") : image);
    *module = types;
    note("load");
    return 0;
}

int cuModuleUnload(void *module) { (void)module; note("unload"); return 0; }

int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (module != types || !strcmp(name, "absent")) return 500;
    fail_launch = !strcmp(name, "faulty");
    *function = (void *)0x99;
    return 0;
}

int cuFuncSetAttribute(void *function, int attribute, int value) {
    char line[64];
    snprintf(line, sizeof line, "attribute %d = %d", attribute, value);
    note(line);
    return function == (void *)0x99 ? 0 : 400;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    char line[512];
    int at;
    if (function != (void *)0x99 || extra) return 400;
    if (fail_launch) return 719;
    at = snprintf(line, sizeof line, "launch %u,%u,%u x %u,%u,%u shared %u stream %llu:", gx, gy, gz, bx, by, bz,
                  shared, (unsigned long long)(uintptr_t)stream);
    for (const char *kind = types; *kind; kind++) {
        if (*kind == ' ') { params++; continue; }
        if (*kind == 'p') at += snprintf(line + at, sizeof line - at, " 0x%llx", *(unsigned long long *)*params);
        if (*kind == 'b') at += snprintf(line + at, sizeof line - at, " %d", *(signed char *)*params);
        if (*kind == 'i') at += snprintf(line + at, sizeof line - at, " %d", *(int *)*params);
        if (*kind == 'l') at += snprintf(line + at, sizeof line - at, " %lld", *(long long *)*params);
        if (*kind == 'f') at += snprintf(line + at, sizeof line - at, " %.9g", *(float *)*params);
        if (*kind == 'd') at += snprintf(line + at, sizeof line - at, " %.17g", *(double *)*params);
    }
    note(line);
    return 0;
}

int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = calloc(1, sizeof(float)); return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuEventSynchronize(void *event) { (void)event; return 0; }

int cuEventRecord(void *event, void *stream) {
    static float clock;
    (void)stream;
    *(float *)event = clock += 1.5f;
    return 0;
}

int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    *milliseconds = *(float *)end - *(float *)start;
    return 0;
}

int cuGetErrorName(int status, const char **name) {
    *name = status == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : status == 500 ? "CUDA_ERROR_NOT_FOUND" :
            status == 200 ? "CUDA_ERROR_INVALID_IMAGE" : status == 100 ? "CUDA_ERROR_NO_DEVICE" :
            status == 101 ? "CUDA_ERROR_INVALID_DEVICE" : 0;
    return *name ? 0 : 1;
}

int cuGetErrorString(int status, const char **words) {
    *words = status == 719 ? "unspecified launch failure" : 0;
    return *words ? 0 : 1;
}
