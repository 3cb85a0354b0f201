// SPDX-License-Identifier: GPL-2.0-only
/*
 * init: the guest's first process. It mounts what the cases need, starts the
 * only service, an ssh server with this boot's keys, buries the dead, and
 * powers off when the server ends.
 *
 * It says "twinboot: ready" on the results channel; everything else it says
 * goes to the kernel's log. One program, because without KVM starting one costs
 * more than all that it does here.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONGEST 4096
#define SEED 64
#define PORT_MS 10000
#define TURN_MS 5
#define PORTS "/sys/class/virtio-ports"
#define TRIAL "/twinboot/trial/"
#define STATE "/run/twinboot/"
#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)
/* How virtme-ng mounts its folders; nobody writes to this one either */
#define P9 "version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose"

static const struct {
	const char *source, *target, *type, *options;
	unsigned long flags;
	int wanted;		/* else a kernel may be without it */
} mounts[] = {
	{ "devtmpfs", "/dev", "devtmpfs", "mode=755", 0, 1 },
	{ "proc", "/proc", "proc", NULL, SAFE, 1 },
	{ "sys", "/sys", "sysfs", NULL, SAFE, 1 },
	{ "run", "/run", "tmpfs", "mode=755", 0, 1 },
	{ "tmp", "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, 1 },
	{ "root", "/root", "tmpfs", "mode=700", 0, 1 },
	{ "devpts", "/dev/pts", "devpts", "mode=600,ptmxmode=000",
	  MS_NOSUID | MS_NOEXEC, 1 },
	{ "shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, 1 },
	{ "cgroup2", "/sys/fs/cgroup", "cgroup2", NULL, 0, 1 },
	{ "configfs", "/sys/kernel/config", "configfs", NULL, 0, 0 },
	{ "debugfs", "/sys/kernel/debug", "debugfs", NULL, 0, 0 },
	{ "tracefs", "/sys/kernel/tracing", "tracefs", NULL, 0, 0 },
	{ "virtme.initmount0", TRIAL, "9p", P9, MS_RDONLY, 1 },
};

static const char *const links[][2] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

static char *const server[] = {
	"dropbear", "-F", "-E", "-s", "-j", "-k", "-r", STATE "hostkey",
	"-P", STATE "pid", "-p", "22", NULL,
};

static char *const environment[] = {
	"PATH=/twinboot/bin:/bin:/sbin:/usr/bin:/usr/sbin",
	"TWINBOOT_GUEST=1", "HOME=/root", NULL,
};

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	close(fd);
	return written == (ssize_t)strlen(text) ? 0 : -1;
}

static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
	char text[256] = "twinboot: ";
	size_t used = strlen(text);
	va_list rest;

	va_start(rest, format);
	vsnprintf(text + used, sizeof(text) - used, format, rest);
	va_end(rest);
	put("/dev/kmsg", text);
}

static void say_when(const char *what)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	say("%s at %ld.%02ld s", what, (long)now.tv_sec, now.tv_nsec / 10000000);
}

/* Without a console's device in the root folder the kernel gave us no output. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);
	int each;

	if (fd < 0)
		return;
	for (each = 0; each <= 2; each++)
		if (fd != each)
			dup2(fd, each);
	if (fd > 2)
		close(fd);
}

static void mount_all(void)
{
	size_t i;

	for (i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
		mkdir(mounts[i].target, 0755);
		/* the kernel itself may have mounted /dev */
		if (mount(mounts[i].source, mounts[i].target, mounts[i].type,
			  mounts[i].flags, mounts[i].options) &&
		    errno != EBUSY && mounts[i].wanted)
			say("no %s: %s", mounts[i].target, strerror(errno));
		if (!strcmp(mounts[i].target, "/dev"))
			open_console();
	}
	for (i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			say("no %s: %s", links[i][1], strerror(errno));
}

static void copy(const char *from, const char *to)
{
	char text[LONGEST];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ssize_t got = in < 0 ? -1 : read(in, text, sizeof(text));

	if (got <= 0 || out < 0 || write(out, text, got) != got)
		say("cannot copy %s", from);
	close(in);
	close(out);
}

/*
 * All of the seed counts as random. The server waits for the kernel's random
 * numbers, and a guest has hardly anything they could come from. Where a kernel
 * does not ask the CPU for them (5.10 without CONFIG_ARCH_RANDOM) that takes a
 * second and more.
 */
static void seed_random(void)
{
	struct {
		struct rand_pool_info info;
		char bytes[SEED];
	} seed = { .info = { .buf_size = SEED, .entropy_count = 8 * SEED } };
	int from = open(TRIAL "seed", O_RDONLY | O_CLOEXEC);
	int to = open("/dev/random", O_WRONLY | O_CLOEXEC);

	if (read(from, seed.bytes, SEED) != SEED || ioctl(to, RNDADDENTROPY, &seed))
		say("no seed for the random numbers");
	close(from);
	close(to);
}

static int bring_up(int fd, const char *name, const char *address, const char *mask)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *where = (struct sockaddr_in *)&request.ifr_addr;

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	where->sin_family = AF_INET;
	inet_pton(AF_INET, address, &where->sin_addr);
	if (ioctl(fd, SIOCSIFADDR, &request))
		return -1;
	inet_pton(AF_INET, mask, &where->sin_addr);
	if (ioctl(fd, SIOCSIFNETMASK, &request) || ioctl(fd, SIOCGIFFLAGS, &request))
		return -1;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &request);
}

/* The addresses are those of QEMU's user network. */
static void set_up_network(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (bring_up(fd, "lo", "127.0.0.1", "255.0.0.0") ||
	    bring_up(fd, "eth0", "10.0.2.15", "255.255.255.0"))
		say("no network device");
	close(fd);
}

static int is_results(const char *port)
{
	char path[LONGEST], name[64] = "";
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), PORTS "/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);
	close(fd);
	return got > 0 && !strcmp(name, "twinboot.results\n");
}

static int find_results(void)
{
	char path[LONGEST];
	struct dirent *entry;
	DIR *ports = opendir(PORTS);
	int found = 0;

	while (ports && !found && (entry = readdir(ports)))
		if (is_results(entry->d_name)) {
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			found = !symlink(path, STATE "results");
		}
	if (ports)
		closedir(ports);
	return found;
}

/*
 * The channel takes one writer at a time, so it is found here once. QEMU tells
 * the driver a port's name some time after the driver has found the device.
 */
static void wait_for_results(void)
{
	const struct timespec turn = { .tv_nsec = TURN_MS * 1000000L };
	int turns;

	for (turns = 0; turns < PORT_MS / TURN_MS; turns++) {
		if (find_results())
			return;
		nanosleep(&turn, NULL);
	}
	say("no results channel");
}

static pid_t start_server(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		/* It must outlive the memory pressure that the cases make. */
		put("/proc/self/oom_score_adj", "-1000");
		execve("/usr/sbin/dropbear", server, environment);
		say("no ssh server: %s", strerror(errno));
		_exit(127);
	}
	return pid;
}

int main(void)
{
	int status;
	pid_t pid;

	if (getpid() != 1) {
		fputs("init is the first process of a guest, and nothing else\n", stderr);
		return 2;
	}
	mount_all();
	say_when("start");
	sethostname("twinboot", strlen("twinboot"));
	set_up_network();
	mkdir("/root/.ssh", 0700);
	mkdir(STATE, 0700);
	copy(TRIAL "authorized_keys", "/root/.ssh/authorized_keys");
	copy(TRIAL "hostkey", STATE "hostkey");
	seed_random();
	/* Cases create their own groups below the root. */
	put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	wait_for_results();
	say_when("ssh");
	pid = start_server();
	put(STATE "results", "twinboot: ready\n");
	while (pid > 0) {
		pid_t dead = wait(&status);

		if (dead == pid || (dead < 0 && errno == ECHILD))
			break;
	}
	say("the ssh server has ended");
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
