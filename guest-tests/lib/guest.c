// SPDX-License-Identifier: GPL-2.0-only
/*
 * What every C guest test stands on: KTAP output, knobs, children, and their
 * restoring. It knows no scenario (c/) and no page (pages.c).
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_KNOBS 16
#define MAX_CHILDREN 256
#define MAX_UNDOS 4
#define KNOB_TEXT 256
#define EXIT_FAIL 1
#define EXIT_USAGE 2
#define EXIT_SKIP 4

struct knob {
	char path[128];
	char old[KNOB_TEXT];
	size_t len;
};

static struct knob knobs[MAX_KNOBS];
static int nr_knobs;
static pid_t children[MAX_CHILDREN];
static void (*undos[MAX_UNDOS])(void);
static int nr_undos;
static char memcg[64];
static pid_t owner;
static int planned, given, failed;
static const char *argument;

/* ---- restoring: async-signal-safe, so that SIGTERM restores too ---------- */

static bool write_file(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, len) == (ssize_t)len;
	close(fd);
	return ok;
}

static void kill_children(void)
{
	for (int i = 0; i < MAX_CHILDREN; i++) {
		if (children[i] <= 0)
			continue;
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
		children[i] = 0;
	}
}

static void leave_memcg(void)
{
	if (!memcg[0])
		return;
	write_file("/sys/fs/cgroup/cgroup.procs", "0", 1);
	rmdir(memcg);
	memcg[0] = 0;
}

static void restore(void)
{
	/* a forked child inherits this list, but the knobs are not its own */
	if (getpid() != owner)
		return;
	/* first: no child dies that waits for I/O which somebody holds */
	for (int i = nr_undos; i > 0; i--)
		undos[i - 1]();
	kill_children();
	leave_memcg();
	while (nr_knobs > 0) {
		struct knob *k = &knobs[--nr_knobs];

		write_file(k->path, k->old, k->len);
	}
}

static void on_signal(int sig)
{
	restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void restore_at_any_end(void)
{
	static const int signals[] = {
		SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGSEGV, SIGBUS, SIGABRT, 0,
	};

	owner = getpid();
	atexit(restore);
	for (const int *sig = signals; *sig; sig++)
		signal(*sig, on_signal);
}

/* ---- KTAP ---------------------------------------------------------------- */

void plan(int invariants)
{
	planned = invariants;
	printf("1..%d\n", invariants);
}

static void say(const char *prefix, const char *fmt, va_list ap)
{
	fputs(prefix, stdout);
	vprintf(fmt, ap);
	putchar('\n');
}

#define SAY(prefix, fmt) do {			\
	va_list ap;				\
	va_start(ap, fmt);			\
	say(prefix, fmt, ap);			\
	va_end(ap);				\
} while (0)

void note(const char *fmt, ...)
{
	SAY("# ", fmt);
}

void proof(const char *name, bool ok, const char *fmt, ...)
{
	printf("# proof: %s %s", name, ok ? "ok" : "missing");
	SAY(" ", fmt);
}

void proof_count(const char *name, size_t got, size_t want, const char *what)
{
	proof(name, got == want, "%zu of %zu %s", got, want, what);
}

void measure(const char *name, long long value, const char *unit)
{
	printf("# measure: %s %lld %s\n", name, value, unit);
}

void tries(const char *name, long tried, long lost)
{
	printf("# tries: %s %ld failed %ld\n", name, tried, lost);
}

void verdict(const char *name, bool ok, const char *fmt, ...)
{
	failed += !ok;
	printf("%s %d %s", ok ? "ok" : "not ok", ++given, name);
	SAY(" ", fmt);
}

void verdict_skip(const char *name, const char *fmt, ...)
{
	printf("ok %d %s # SKIP", ++given, name);
	SAY(" ", fmt);
}

void verdict_data(size_t wrong, size_t pages)
{
	verdict("data_intact", !wrong, "%zu of %zu pages differ from what was written",
		wrong, pages);
}

static void skip_rest(const char *fmt, va_list ap)
{
	char reason[512];

	vsnprintf(reason, sizeof(reason), fmt, ap);
	if (!planned)
		printf("1..0 # SKIP %s\n", reason);
	while (given < planned)
		verdict_skip("not_reached", "%s", reason);
}

void skip_all(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	skip_rest(fmt, ap);
	va_end(ap);
	exit(EXIT_SKIP);
}

void broken(const char *fmt, ...)
{
	va_list ap;

	SAY("# proof: setup missing ", fmt);
	va_start(ap, fmt);
	skip_rest(fmt, ap);
	va_end(ap);
	exit(EXIT_SKIP);
}

/* ---- one case, one run --------------------------------------------------- */

void pin_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		broken("cannot run on CPU %d: %s", cpu, strerror(errno));
}

static bool in_guest(void)
{
	char cmdline[4096] = "";
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, cmdline, sizeof(cmdline) - 1) < 0)
			cmdline[0] = 0;
		close(fd);
	}
	return getenv("TWINBOOT_GUEST") || strstr(cmdline, "twinboot.guest=1");
}

static int finish(void)
{
	if (given != planned) {
		printf("Bail out! %d of %d invariants judged\n", given, planned);
		return EXIT_FAIL;
	}
	return failed ? EXIT_FAIL : 0;
}

int guest_main(int argc, char **argv, const struct guest_case *cases)
{
	if (!in_guest()) {
		fputs("Refusing to run: this is not a twinboot guest.\n", stderr);
		return EXIT_USAGE;
	}
	for (; (argc == 2 || argc == 3) && cases->name; cases++) {
		if (strcmp(cases->name, argv[1]))
			continue;
		argument = argv[2];
		setvbuf(stdout, NULL, _IOLBF, 0);
		restore_at_any_end();
		pin_cpu(0);
		puts("KTAP version 1");
		cases->run();
		return finish();
	}
	fputs("Usage: give the name of one case of this group, and a number if it takes one.\n",
	      stderr);
	return EXIT_USAGE;
}

long case_number(long otherwise)
{
	return argument ? strtol(argument, NULL, 10) : otherwise;
}

const char *swap_kind(void)
{
	const char *kind = getenv("TWINBOOT_SWAP");

	return kind ? kind : "none";
}

const char *swap_dev(void)
{
	const char *dev = getenv("TWINBOOT_SWAP_DEV");

	return dev ? dev : "";
}

bool swap_is(const char *kind)
{
	return !strcmp(swap_kind(), kind);
}

long swap_delay_ms(void)
{
	const char *ms = getenv("TWINBOOT_SWAP_DELAY_MS");

	return ms ? strtol(ms, NULL, 10) : 0;
}

int patience_ms(void)
{
	const char *ms = getenv("TWINBOOT_PATIENCE_MS");

	return (ms ? (int)strtol(ms, NULL, 10) : 10000) + (int)swap_delay_ms();
}

uint64_t seed(void)
{
	const char *text = getenv("TWINBOOT_SEED");

	return text ? strtoull(text, NULL, 0) : 1;
}

/* ---- system state -------------------------------------------------------- */

/* Of a knob that offers a choice, "always [madvise] never", what is chosen. */
static void keep_chosen(struct knob *k)
{
	char *from = memchr(k->old, '[', k->len);
	char *to = memchr(k->old, ']', k->len);

	if (!from || !to || to < from)
		return;
	k->len = (size_t)(to - from) - 1;
	memmove(k->old, from + 1, k->len);
}

void knob_set(const char *path, const char *value)
{
	struct knob *k = &knobs[nr_knobs];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0) {
		got = read(fd, k->old, sizeof(k->old));
		close(fd);
	}
	if (got <= 0)
		skip_all("this kernel has no %s", path);
	if (nr_knobs == MAX_KNOBS)
		broken("more than %d knobs", MAX_KNOBS);
	snprintf(k->path, sizeof(k->path), "%s", path);
	k->len = (size_t)got;
	keep_chosen(k);
	nr_knobs++;
	if (!write_file(path, value, strlen(value)))
		broken("%s does not take %s: %s", path, value, strerror(errno));
}

void at_restore(void (*undo)(void))
{
	for (int i = 0; i < nr_undos; i++)
		if (undos[i] == undo)
			return;
	if (nr_undos == MAX_UNDOS)
		broken("more than %d ways to undo", MAX_UNDOS);
	undos[nr_undos++] = undo;
}

static void enter_memcg(void)
{
	char path[128];

	/* fails harmlessly where the runner has already enabled it */
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory", 7);
	snprintf(memcg, sizeof(memcg), "/sys/fs/cgroup/twinboot.%d", getpid());
	if (mkdir(memcg, 0755))
		skip_all("no cgroup v2 at /sys/fs/cgroup: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/memory.max", memcg);
	if (access(path, F_OK))
		skip_all("no memory controller in cgroup v2");
	snprintf(path, sizeof(path), "%s/cgroup.procs", memcg);
	if (!write_file(path, "0", 1))
		broken("cannot enter %s: %s", memcg, strerror(errno));
}

void in_memcg(const char *knob, const char *value)
{
	char path[128];

	if (!memcg[0])
		enter_memcg();
	if (!knob)
		return;
	snprintf(path, sizeof(path), "%s/%s", memcg, knob);
	if (access(path, F_OK))
		skip_all("this kernel has no %s", knob);
	if (!write_file(path, value, strlen(value)))
		broken("%s does not take %s: %s", path, value, strerror(errno));
}

const char *memcg_path(void)
{
	return memcg;
}

/* ---- children ------------------------------------------------------------ */

static pid_t *child_slot(pid_t pid)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (children[i] == pid)
			return &children[i];
	broken("more than %d children", MAX_CHILDREN);
}

pid_t spawn(int (*fn)(void *), void *arg)
{
	pid_t *slot = child_slot(0);
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		broken("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	*slot = pid;
	return pid;
}

int reap(pid_t child)
{
	pid_t *slot = child_slot(child);
	int status;

	if (waitpid(child, &status, 0) != child)
		broken("waitpid: %s", strerror(errno));
	*slot = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

struct gate gate_make(void)
{
	struct gate g;

	if (pipe2(g.fd, O_CLOEXEC))
		broken("pipe: %s", strerror(errno));
	return g;
}

void gate_open(const struct gate *g)
{
	/* one byte into a fresh pipe cannot block, and the waiter has a limit */
	if (write(g->fd[1], "", 1) != 1)
		note("a gate could not be opened: %s", strerror(errno));
}

bool gate_wait(const struct gate *g)
{
	struct pollfd p = { .fd = g->fd[0], .events = POLLIN };
	char byte;

	return poll(&p, 1, patience_ms()) == 1 && read(g->fd[0], &byte, 1) == 1;
}

void gate_close(const struct gate *g)
{
	close(g->fd[0]);
	close(g->fd[1]);
}

void *map_shared(size_t bytes)
{
	void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		broken("mmap of %zu shared bytes: %s", bytes, strerror(errno));
	return addr;
}
