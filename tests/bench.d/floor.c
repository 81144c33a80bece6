// The floor of tests/bench: a plugin that only makes system calls, those of our plugin that a job cannot do without, in
// the same order and in the same process. It checks nothing, keeps no reliable journal, and logs nothing.
//
// FLOOR_SKIP in the environment leaves steps out, to see what each costs: exec, hide, caps, links, trash, copy (the child
// then shares the memory until its exec).
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const char plugin_name[] = "floor", plugin_type[] = "namespace/floor";
const uint32_t plugin_version = 0x1a0505;

extern int slurm_list_count(void *);
extern void slurm_list_append(void *, void *);

enum { NS_PID = 1, NS_USER = 2 };
static const char base[] = "/var/spool/jobns/floor";
static char holder_image[16384];
static size_t holder_size;
static long sets;
static const char *skip;
static uint32_t job;
static int pins[3] = {-1, -1, -1};
static pid_t holder;
static struct entry {
	int type, fd;
} entries[3];

#define TRY(call)                                                                                                      \
	do {                                                                                                           \
		if ((long)(call) < 0) {                                                                                \
			fprintf(stderr, "floor: %s: %m\n", #call);                                                     \
			return -1;                                                                                     \
		}                                                                                                      \
	} while (0)

static bool skipped(const char *step) { return skip && strstr(skip, step); }

static int open2(int at, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
	return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}
enum { DIR_FLAGS = O_RDONLY | O_DIRECTORY, INSIDE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV };

static int config(int fd, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fd, value ? FSCONFIG_SET_STRING : FSCONFIG_CMD_CREATE, key, value, 0);
}

static int filesystem(const char *kind, const char *mode, bool tiny, unsigned attributes)
{
	int fd = (int)syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC);
	config(fd, "source", kind);
	if (mode)
		config(fd, "mode", mode);
	if (tiny) {
		config(fd, "nr_inodes", "1");
		config(fd, "size", "4k");
	}
	config(fd, NULL, NULL);
	int mount = (int)syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes);
	close(fd);
	return mount;
}

static int attach(int mount, const char *target)
{
	int fd = open2(AT_FDCWD, target, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
	int rc = (int)syscall(SYS_move_mount, mount, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	close(fd);
	return rc;
}

static int child(const int *fds)
{
	const int channel = fds[0], parents = fds[1], tmp = fds[2], shm = fds[3], image = fds[4];
	char byte;
	close(parents);
	if (!skipped("copy"))
		prctl(PR_SET_DUMPABLE, 0);
	if (sets & NS_USER)
		TRY(read(channel, &byte, 1));
	struct mount_attr private = {.propagation = MS_PRIVATE};
	TRY(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private));
	if (sets & NS_PID)
		TRY(attach(filesystem("proc", NULL, false, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "/proc"));
	TRY(attach(tmp, "/tmp"));
	TRY(attach(shm, "/dev/shm"));
	TRY(chdir("/"));
	if (!skipped("caps")) {
		prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NO_CAP_AMBIENT_RAISE, 0, 0, 0);
		for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
	TRY(syscall(SYS_close_range, 0, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */));
	TRY(write(channel, "r", 1));
	char *const argv[] = {"slurmstepd: [floor]", NULL}, *const envp[] = {NULL};
	if (skipped("exec")) {
		close(channel);
		for (;;)
			pause();
	}
	TRY(syscall(SYS_execveat, image, "", argv, envp, AT_EMPTY_PATH));
	return -1;
}

static int run_child(void *fds)
{
	child(fds);
	_exit(1);
}

static void *hide(void *unused)
{
	int cover = filesystem("tmpfs", "555", true, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	(void)unused;
	unshare(CLONE_FS);
	setns(pins[0], CLONE_NEWNS);
	long rc = attach(cover, base);
	close(cover);
	return (void *)rc;
}

static int write_map(const char *map, pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, map);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int rc = (int)write(fd, "0 0 4294967295", 14);
	close(fd);
	return rc;
}

int namespace_p_stepd_create(char *step)
{
	char name[16], link[17], text[256];
	char byte;
	memcpy(&job, step + 120, sizeof job);
	snprintf(name, sizeof name, "%u", job);
	snprintf(link, sizeof link, ".%u", job);
	int base_fd = open2(AT_FDCWD, base, DIR_FLAGS, RESOLVE_NO_SYMLINKS);
	TRY(mkdirat(base_fd, name, 0700));
	int dir = open2(base_fd, name, DIR_FLAGS, INSIDE);
	close(base_fd);
	TRY(mkdirat(dir, ".ns", 0700));
	int ns = open2(dir, ".ns", DIR_FLAGS, INSIDE);
	int state = openat(ns, "state", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	TRY(write(state, text, snprintf(text, sizeof text, "job %u %0150d\n", job, 0)));
	if (!skipped("links"))
		TRY(symlinkat(".", dir, link));
	TRY(mkdirat(dir, "_tmp", 0700));
	int fd = open2(dir, "_tmp", DIR_FLAGS, INSIDE);
	TRY(fchown(fd, 1001, (gid_t)-1));
	int tmp = (int)syscall(SYS_open_tree, fd, "", 1 | O_CLOEXEC | AT_EMPTY_PATH);
	close(fd);
	struct mount_attr private = {.propagation = MS_PRIVATE};
	TRY(syscall(SYS_mount_setattr, tmp, "", AT_EMPTY_PATH, &private, sizeof private));
	int shm = filesystem("tmpfs", "1777", false, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	int channel[2];
	TRY(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel));
	int image = memfd_create("holder", MFD_CLOEXEC);
	TRY(write(image, holder_image, holder_size));

	int pidfd = -1;
	struct clone_args args = {.flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_CLEAR_SIGHAND |
					   (sets & NS_PID ? CLONE_NEWPID : 0) | (sets & NS_USER ? CLONE_NEWUSER : 0),
				  .pidfd = (uintptr_t)&pidfd,
				  .exit_signal = SIGCHLD};
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	int fds[] = {channel[1], channel[0], tmp, shm, image};
	static char stack[65536] __attribute__((aligned(16)));
	if (skipped("copy"))
		holder = clone(run_child, stack + sizeof stack,
			       (int)(args.flags & ~CLONE_CLEAR_SIGHAND) | CLONE_VM | SIGCHLD, fds, &pidfd);
	else
		holder = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (holder == 0)
		run_child(fds);
	sigprocmask(SIG_SETMASK, &before, NULL);
	TRY(holder);
	close(channel[1]);
	if (sets & NS_USER) {
		TRY(write_map("uid_map", holder));
		TRY(write_map("gid_map", holder));
		TRY(write(channel[0], "m", 1));
	}
	TRY(write(state, text, snprintf(text, sizeof text, "holder %d\n", holder)));
	static const char *const kinds[] = {"mnt", "pid", "user"};
	const bool wanted[] = {true, sets & NS_PID, sets & NS_USER};
	for (int i = 0; i < 3; i++) {
		if (!wanted[i] || skipped("links"))
			continue;
		snprintf(text, sizeof text, "/proc/%d/ns/%s", holder, kinds[i]);
		TRY(symlinkat(text, ns, kinds[i]));
	}
	close(ns);
	TRY(read(channel[0], &byte, 1));
	if (read(channel[0], &byte, 1) != 0) // the end of file of the exec
		return -1;
	for (int i = 0; i < 3; i++) {
		if (!wanted[i])
			continue;
		snprintf(text, sizeof text, "/proc/%d/ns/%s", holder, kinds[i]);
		TRY(pins[i] = open(text, O_RDONLY | O_CLOEXEC));
	}
	if (!skipped("hide")) {
		pthread_t thread;
		void *rc;
		pthread_create(&thread, NULL, hide, NULL);
		pthread_join(thread, &rc);
		TRY((long)rc);
	}
	TRY(write(state, "ready\n", 6));
	int done[] = {state, image, channel[0], tmp, shm, dir, pidfd};
	for (size_t i = 0; i < sizeof done / sizeof *done; i++)
		close(done[i]);
	return 0;
}

int namespace_p_stepd_delete(void *unused)
{
	char name[16];
	(void)unused;
	int pidfd = (int)syscall(SYS_pidfd_open, holder, 0);
	if (pidfd >= 0) {
		struct pollfd wait = {.fd = pidfd, .events = POLLIN};
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		poll(&wait, 1, 30000);
		waitid(P_PIDFD, (id_t)pidfd, NULL, WEXITED);
		close(pidfd);
	}
	for (int i = 0; i < 3; i++)
		if (pins[i] >= 0)
			close(pins[i]);
	snprintf(name, sizeof name, "%u", job);
	int base_fd = open2(AT_FDCWD, base, DIR_FLAGS, RESOLVE_NO_SYMLINKS);
	int trash = base_fd;
	if (!skipped("trash")) {
		mkdirat(base_fd, ".trash", 0700);
		trash = open2(base_fd, ".trash", DIR_FLAGS, INSIDE);
		TRY(renameat2(base_fd, name, trash, name, RENAME_NOREPLACE));
	}
	int dir = open2(trash, name, DIR_FLAGS, INSIDE), ns = open2(dir, ".ns", DIR_FLAGS, INSIDE);
	char entries_buffer[4096], link[17];
	syscall(SYS_getdents64, dir, entries_buffer, sizeof entries_buffer);
	syscall(SYS_getdents64, ns, entries_buffer, sizeof entries_buffer);
	static const char *const in_ns[] = {"state", "mnt", "pid", "user"};
	for (int i = 0; i < (sets & NS_USER ? 4 : sets & NS_PID ? 3 : 2); i++)
		unlinkat(ns, in_ns[i], 0);
	snprintf(link, sizeof link, ".%u", job);
	unlinkat(dir, link, 0);
	unlinkat(dir, "_tmp", AT_REMOVEDIR);
	unlinkat(dir, ".ns", AT_REMOVEDIR);
	TRY(unlinkat(trash, name, AT_REMOVEDIR));
	int done[] = {ns, dir, base_fd, trash == base_fd ? -1 : trash};
	for (size_t i = 0; i < sizeof done / sizeof *done; i++)
		close(done[i]);
	return 0;
}

// Reads the holder's number, as ours reads its state, and enters by pidfd.
int namespace_p_join(const char *step_id, uid_t uid, bool create)
{
	char path[128], text[512];
	uint32_t of;
	(void)uid;
	(void)create;
	memcpy(&of, step_id + 8, sizeof of);
	snprintf(path, sizeof path, "%s/%u/.ns/state", base, of);
	int fd = open2(AT_FDCWD, path, O_RDONLY, RESOLVE_NO_SYMLINKS);
	struct stat stat;
	TRY(fstat(fd, &stat));
	ssize_t n = read(fd, text, sizeof text - 1);
	TRY(n);
	text[n] = 0;
	close(fd);
	char *line = strstr(text, "holder ");
	pid_t pid = line ? atoi(line + 7) : -1;
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	TRY(pidfd);
	TRY(setns(pidfd, CLONE_NEWNS | (sets & NS_PID ? CLONE_NEWPID : 0) | (sets & NS_USER ? CLONE_NEWUSER : 0)));
	close(pidfd);
	return 0;
}

int namespace_p_join_external(void *step_id, void *list)
{
	static const int types[] = {CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER};
	(void)step_id;
	for (int i = 2; i >= 0; i--) {
		if (pins[i] < 0)
			continue;
		entries[i] = (struct entry){types[i], pins[i]};
		slurm_list_append(list, &entries[i]);
	}
	return slurm_list_count(list);
}

int init(void)
{
	const char *text = getenv("FLOOR_SETS");
	sets = text ? atol(text) : 0;
	skip = getenv("FLOOR_SKIP");
	int fd = open("/opt/host/holder", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, holder_image, sizeof holder_image);
	TRY(n);
	holder_size = (size_t)n;
	close(fd);
	mkdir(base, 0755);
	return 0;
}

int namespace_p_send_stepd(int fd) { return write(fd, "floor\n", 6) == 6 ? 0 : -1; }

int namespace_p_recv_stepd(int fd)
{
	char text[6];
	return read(fd, text, sizeof text) == sizeof text ? 0 : -1;
}

int namespace_p_restore(char *directory, bool recover)
{
	(void)directory;
	return recover ? 0 : -1;
}

bool namespace_p_can_bpf(void *step) { return step != NULL; }
int namespace_p_setup_bpf_token(void *step) { return step ? 0 : -1; }
