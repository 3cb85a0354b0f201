// SPDX-License-Identifier: GPL-2.0-only
/*
 * seed-random <SEED: what it reads counts as random, all of it.
 *
 * The ssh server waits for the kernel's random numbers, and a guest has hardly
 * anything they could come from. Where a kernel does not ask the CPU for them
 * (5.10 without CONFIG_ARCH_RANDOM) that takes a second and more.
 */
#include <linux/random.h>
#include <stdio.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BYTES 64

int main(void)
{
	struct {
		struct rand_pool_info info;
		char bytes[BYTES];
	} seed = { .info = { .buf_size = BYTES, .entropy_count = 8 * BYTES } };
	int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);

	if (read(STDIN_FILENO, seed.bytes, BYTES) != BYTES) {
		fputs("the seed is too short\n", stderr);
		return 1;
	}
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &seed)) {
		perror("/dev/random");
		return 1;
	}
	return 0;
}
