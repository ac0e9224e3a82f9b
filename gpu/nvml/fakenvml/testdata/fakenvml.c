/* A stand-in for libnvidia-ml.so.1, for tests.
 *
 * It answers out of the file "scenario" in $DEFIB_FAKE_NVML_DIR, lines of
 * "key value" that are read anew on each call, and reports what is appended to
 * the file "events" there: "GPU ev TYPE DATA GI CI" or "GPU ret CODE". The keys
 * are in the documentation of the Go package fakenvml. It writes into the file
 * "trace" who opens and closes it. -DFAKE_NO_FIELDS, -DFAKE_NO_V3 and -DFAKE_BARE
 * leave symbols out, as old drivers do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAXGPU 8
#define MAXMIG 8
#define NONE 0xFFFFFFFFu

typedef unsigned long long u64;
typedef unsigned int u32;
typedef int ret_t;
enum { OK = 0, BAD_ARG = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMED_OUT = 10 };

typedef struct { int gpu, mig; } device;                /* mig -1: the whole GPU */
typedef struct { u32 mask[MAXGPU]; long offset; } events;
static device gpus[MAXGPU], migs[MAXGPU][MAXMIG];

static FILE *open_as(const char *name, const char *mode) {
	const char *dir = getenv("DEFIB_FAKE_NVML_DIR");
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", dir ? dir : ".", name);
	return fopen(path, mode);
}
static FILE *open_in_dir(const char *name) { return open_as(name, "r"); }

static void trace(const char *what) {
	FILE *f = open_as("trace", "a");
	if (!f) return;
	fprintf(f, "%s %d\n", what, (int)getpid());
	fclose(f);
}

/* find copies the value of a key; the last line that has it counts. */
static int find(const char *key, char *out, size_t size) {
	FILE *f = open_in_dir("scenario");
	char line[1024];
	size_t n = strlen(key);
	int found = 0;
	if (!f) return 0;
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, key, n) && line[n] == ' ') {
			line[strcspn(line, "\n")] = 0;
			snprintf(out, size, "%s", line + n + 1);
			found = 1;
		}
	fclose(f);
	return found;
}

static u64 number(const char *key, u64 otherwise) {
	char v[1024];
	return find(key, v, sizeof v) ? strtoull(v, NULL, 0) : otherwise;
}

/* of_gpu is number for "gpuN.key". */
static u64 of_gpu(int gpu, const char *key, u64 otherwise) {
	char full[128];
	snprintf(full, sizeof full, "gpu%d.%s", gpu, key);
	return number(full, otherwise);
}

static void text_of_gpu(int gpu, const char *key, const char *otherwise, char *out, size_t size) {
	char full[128];
	snprintf(full, sizeof full, "gpu%d.%s", gpu, key);
	if (!find(full, out, size)) snprintf(out, size, "%s", otherwise);
}

/* enter is what every call on a GPU begins with: it may hang, and it may fail. */
static ret_t enter(device *d, const char *call) {
	char key[128];
	u64 ms = of_gpu(d->gpu, "hang_ms", 0);
	snprintf(key, sizeof key, "%s.hang_ms", call);
	ms += of_gpu(d->gpu, key, 0);
	if (ms) usleep(ms * 1000);
	snprintf(key, sizeof key, "%s.ret", call);
	return of_gpu(d->gpu, key, of_gpu(d->gpu, "ret", OK));
}
#define ENTER(d, call) do { ret_t r_ = enter(d, call); if (r_) return r_; } while (0)

ret_t nvmlInit_v2(void) {
	for (int g = 0; g < MAXGPU; g++) {
		gpus[g].gpu = g, gpus[g].mig = -1;
		for (int m = 0; m < MAXMIG; m++) migs[g][m].gpu = g, migs[g][m].mig = m;
	}
	usleep(number("init.hang_ms", 0) * 1000);
	ret_t r = number("init.ret", OK);
	if (!r) trace("open");
	return r;
}
ret_t nvmlShutdown(void) { trace("close"); return OK; }
const char *nvmlErrorString(ret_t r) { (void)r; return "an error of the fake driver"; }

ret_t nvmlSystemGetDriverVersion(char *out, u32 size) {
	if (!find("driver", out, size)) snprintf(out, size, "580.95.05");
	return OK;
}
ret_t nvmlDeviceGetCount_v2(u32 *n) { *n = number("count", 1); return number("count.ret", OK); }

ret_t nvmlDeviceGetHandleByIndex_v2(u32 i, device **d) {
	if (i >= number("count", 1) || i >= MAXGPU) return BAD_ARG;
	*d = &gpus[i];
	return of_gpu(i, "handle.ret", OK);
}

ret_t nvmlDeviceGetUUID(device *d, char *out, u32 size) {
	char otherwise[64];
	if (d->mig >= 0) {
		snprintf(out, size, "MIG-%08x-0000-4000-8000-%012x", d->gpu, d->mig);
		return OK;
	}
	ENTER(d, "uuid");
	snprintf(otherwise, sizeof otherwise, "GPU-%08x-0000-4000-8000-000000000000", d->gpu);
	text_of_gpu(d->gpu, "uuid", otherwise, out, size);
	return OK;
}
ret_t nvmlDeviceGetName(device *d, char *out, u32 size) {
	ENTER(d, "name");
	text_of_gpu(d->gpu, "name", "NVIDIA H100 80GB HBM3", out, size);
	return OK;
}
ret_t nvmlDeviceGetMinorNumber(device *d, u32 *minor) {
	ENTER(d, "minor");
	*minor = of_gpu(d->gpu, "minor", d->gpu);
	return OK;
}
ret_t nvmlDeviceGetPciInfo_v3(device *d, struct { char legacy[16]; u32 domain, bus, device, id, sub; char busid[32]; } *p) {
	char otherwise[64];
	ENTER(d, "pci");
	memset(p, 0, sizeof *p);
	snprintf(otherwise, sizeof otherwise, "00000000:%02X:00.0", 0x3b + d->gpu);
	text_of_gpu(d->gpu, "pci", otherwise, p->busid, sizeof p->busid);
	return OK;
}

static u64 total(device *d) { return of_gpu(d->gpu, "total", 85520809984ull); }
static u64 reserved(device *d) { return of_gpu(d->gpu, "reserved", 500 << 20); }

ret_t nvmlDeviceGetMemoryInfo(device *d, struct { u64 total, free, used; } *m) {
	ENTER(d, "memory");
	m->total = total(d);
	m->used = of_gpu(d->gpu, "used", 0) + reserved(d);
	m->free = m->total - m->used;
	return OK;
}

/* A list is "PID:BYTES,PID:BYTES"; bytes may be left out. */
#define LIST(name, type, call)                                                   \
	ret_t name(device *d, u32 *count, type *out) {                               \
		char v[1024], *at = v;                                                   \
		u32 n = 0;                                                               \
		ENTER(d, call);                                                          \
		text_of_gpu(d->gpu, call, "", v, sizeof v);                              \
		for (; *at; n++) {                                                       \
			u32 pid = strtoul(at, &at, 10);                                      \
			u64 bytes = *at == ':' ? strtoull(at + 1, &at, 10) : ~0ull;          \
			if (*at == ',') at++;                                                \
			if (n < *count) { memset(&out[n], 0xff, sizeof out[n]); out[n].pid = pid; out[n].used = bytes; } \
		}                                                                        \
		if (n > *count) { *count = n; return TOO_SMALL; }                        \
		*count = n;                                                              \
		return OK;                                                               \
	}
typedef struct { u32 pid; u64 used; } process_v1;
typedef struct { u32 pid; u64 used; u32 gi, ci; } process_v2;
LIST(nvmlDeviceGetComputeRunningProcesses, process_v1, "compute")

ret_t nvmlDeviceGetTemperature(device *d, u32 sensor, u32 *t) {
	(void)sensor;
	ENTER(d, "temperature");
	*t = of_gpu(d->gpu, "temperature", 41);
	return OK;
}
ret_t nvmlDeviceGetCurrentClocksThrottleReasons(device *d, u64 *reasons) {
	ENTER(d, "reasons");
	*reasons = of_gpu(d->gpu, "reasons", 1);
	return OK;
}
ret_t nvmlDeviceGetTotalEccErrors(device *d, u32 type, u32 counter, u64 *n) {
	ENTER(d, "ecc");
	*n = type == 1 && counter == 0 ? of_gpu(d->gpu, "ecc", 0) : 0;
	return OK;
}

#ifndef FAKE_BARE
#ifndef FAKE_NO_V3
LIST(nvmlDeviceGetComputeRunningProcesses_v3, process_v2, "compute")
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, process_v2, "graphics")
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, process_v2, "mps")
#else
LIST(nvmlDeviceGetComputeRunningProcesses_v2, process_v2, "compute")
#endif

ret_t nvmlDeviceGetHandleByUUID(const char *uuid, device **d) {
	char v[96];
	for (u32 i = 0; i < number("count", 1) && i < MAXGPU; i++)
		if (!nvmlDeviceGetUUID(&gpus[i], v, sizeof v) && !strcmp(v, uuid)) {
			*d = &gpus[i];
			return of_gpu(i, "handle.ret", OK);
		}
	return NOT_FOUND;
}

ret_t nvmlDeviceGetMemoryInfo_v2(device *d, struct { u32 version; u64 total, reserved, free, used; } *m) {
	ENTER(d, "memory");
	if (m->version != (sizeof *m | 2 << 24)) return 25;
	m->total = total(d);
	m->reserved = reserved(d);
	m->used = of_gpu(d->gpu, "used", 0);
	m->free = m->total - m->used - m->reserved;
	return OK;
}
ret_t nvmlDeviceGetTemperatureV(device *d, struct { u32 version, sensor; int t; } *v) {
	return nvmlDeviceGetTemperature(d, v->sensor, (u32 *)&v->t);
}
ret_t nvmlDeviceGetMarginTemperature(device *d, struct { u32 version; int margin; } *v) {
	ENTER(d, "margin");
	v->margin = (int)of_gpu(d->gpu, "margin", 40);
	return OK;
}
ret_t nvmlDeviceGetTemperatureThreshold(device *d, u32 type, u32 *t) {
	ENTER(d, "threshold");
	*t = type == 1 ? of_gpu(d->gpu, "threshold", 87) : 92;
	return OK;
}
ret_t nvmlDeviceGetCurrentClocksEventReasons(device *d, u64 *reasons) {
	return nvmlDeviceGetCurrentClocksThrottleReasons(d, reasons);
}
ret_t nvmlDeviceGetRemappedRows(device *d, u32 *corr, u32 *unc, u32 *pending, u32 *failed) {
	char v[64];
	ENTER(d, "rows");
	text_of_gpu(d->gpu, "rows", "0 0 0 0", v, sizeof v);
	return sscanf(v, "%u %u %u %u", corr, unc, pending, failed) == 4 ? OK : UNSUPPORTED;
}
ret_t nvmlDeviceGetRetiredPagesPendingStatus(device *d, u32 *pending) {
	ENTER(d, "retired");
	*pending = of_gpu(d->gpu, "retired", 0);
	return OK;
}
ret_t nvmlDeviceGetSramEccErrorStatus(device *d, struct { u32 version; u64 counts[11]; u32 exceeded; } *s) {
	ENTER(d, "sram");
	s->exceeded = of_gpu(d->gpu, "sram", 0);
	return OK;
}
ret_t nvmlDeviceGetGpuFabricInfoV(device *d, struct { u32 version; char uuid[16]; u32 status, clique; unsigned char state; u32 mask; } *f) {
	ENTER(d, "fabric");
	f->state = of_gpu(d->gpu, "fabric", 0);
	f->status = of_gpu(d->gpu, "fabric.status", 0);
	f->mask = of_gpu(d->gpu, "fabric.mask", 0);
	return OK;
}
ret_t nvmlDeviceGetNumaNodeId(device *d, u32 *node) {
	u64 n = of_gpu(d->gpu, "numa", NONE);
	*node = (u32)n;
	return n == NONE ? UNSUPPORTED : OK;
}

/* mig is "GI:CI,GI:CI"; without it the GPU is whole. */
static int instances(int gpu, u32 gi[], u32 ci[]) {
	char v[256], *at = v;
	int n = 0;
	text_of_gpu(gpu, "mig", "", v, sizeof v);
	for (; *at && n < MAXMIG; n++) {
		gi[n] = strtoul(at, &at, 10);
		ci[n] = *at == ':' ? strtoul(at + 1, &at, 10) : 0;
		if (*at == ',') at++;
	}
	return n;
}
ret_t nvmlDeviceGetMigMode(device *d, u32 *now, u32 *pending) {
	u32 gi[MAXMIG], ci[MAXMIG];
	ENTER(d, "mode");
	*now = *pending = instances(d->gpu, gi, ci) > 0;
	return OK;
}
ret_t nvmlDeviceGetMaxMigDeviceCount(device *d, u32 *n) { (void)d; *n = MAXMIG; return OK; }
ret_t nvmlDeviceGetMigDeviceHandleByIndex(device *d, u32 i, device **out) {
	u32 gi[MAXMIG], ci[MAXMIG];
	if ((int)i >= instances(d->gpu, gi, ci)) return NOT_FOUND;
	*out = &migs[d->gpu][i];
	return OK;
}
ret_t nvmlDeviceGetGpuInstanceId(device *d, u32 *id) {
	u32 gi[MAXMIG], ci[MAXMIG];
	instances(d->gpu, gi, ci);
	*id = gi[d->mig];
	return OK;
}
ret_t nvmlDeviceGetComputeInstanceId(device *d, u32 *id) {
	u32 gi[MAXMIG], ci[MAXMIG];
	instances(d->gpu, gi, ci);
	*id = ci[d->mig];
	return OK;
}
#endif

#if !defined(FAKE_NO_FIELDS) && !defined(FAKE_BARE)
ret_t nvmlDeviceGetFieldValues(device *d, int n, struct { u32 field, scope; long long at, took; u32 type, ret; union { u32 u; u64 all; } v; } *f) {
	char key[32];
	ENTER(d, "fields");
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof key, "field.%u", f[i].field);
		f[i].type = 1;
		f[i].v.all = 0;
		f[i].v.u = of_gpu(d->gpu, key, 0);
		snprintf(key, sizeof key, "field.%u.ret", f[i].field);
		f[i].ret = of_gpu(d->gpu, key, OK);
	}
	return OK;
}
#endif

#ifndef FAKE_BARE
ret_t nvmlDeviceGetSupportedEventTypes(device *d, u64 *types) {
	ENTER(d, "supported");
	*types = of_gpu(d->gpu, "supported", 0xc01b);
	return OK;
}
ret_t nvmlEventSetCreate(events **set) {
	FILE *f = open_in_dir("events");
	*set = calloc(1, sizeof **set);
	if (f) { /* what happened before is lost */
		fseek(f, 0, SEEK_END);
		(*set)->offset = ftell(f);
		fclose(f);
	}
	return OK;
}
ret_t nvmlDeviceRegisterEvents(device *d, u64 types, events *set) {
	ENTER(d, "register");
	if (types & ~of_gpu(d->gpu, "supported", 0xc01b)) return UNSUPPORTED;
	set->mask[d->gpu] = types;
	return OK;
}
ret_t nvmlEventSetFree(events *set) { free(set); return OK; }

/* next looks for a line for the set: 1 an event, 0 none, else a return code. */
static int next(events *set, device **d, u64 *type, u64 *data, u32 *gi, u32 *ci) {
	char line[256];
	int gpu, code, found = 0;
	FILE *f = open_in_dir("events");
	if (!f) return 0;
	fseek(f, set->offset, SEEK_SET);
	while (!found && fgets(line, sizeof line, f) && strchr(line, '\n')) {
		set->offset = ftell(f);
		*gi = *ci = NONE;
		if (sscanf(line, "%d ret %d", &gpu, &code) == 2 && gpu < MAXGPU && set->mask[gpu])
			found = -code;
		else if (sscanf(line, "%d ev %lli %llu %u %u", &gpu, (long long *)type, data, gi, ci) >= 3 &&
		         gpu < MAXGPU && (set->mask[gpu] & *type))
			*d = &gpus[gpu], found = 1;
	}
	fclose(f);
	return found;
}

typedef struct { device *d; u64 type, data; u32 gi, ci; } event_data;
ret_t nvmlEventSetWait_v2(events *set, event_data *e, u32 ms) {
	const char *tick = getenv("DEFIB_FAKE_NVML_TICK_MS");
	u32 step = tick ? atoi(tick) : 5;
	for (u32 passed = 0;; passed += step) {
		int found = next(set, &e->d, &e->type, &e->data, &e->gi, &e->ci);
		if (found) return found < 0 ? -found : OK;
		for (int g = 0; g < MAXGPU; g++) /* a lost GPU fails at once, and again each time */
			if (set->mask[g] && of_gpu(g, "ret", OK)) return of_gpu(g, "ret", OK);
		if (passed >= ms) return TIMED_OUT;
		usleep(step * 1000);
	}
}
#endif
