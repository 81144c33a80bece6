// hostile: what a user can do to the removal of a job's files. The topics `removal` and `siege` run it, all of it
// without root but `project` and `limit`.
//
//   hostile send SOCKET DIRECTORY...     sends open directories to one of the next two, and waits until it has done its part
//   hostile chain SOCKET LEAD FILES      makes a chain of directories in each that it gets, FILES in each of them, and keeps
//                                        its end LEAD levels below what the removal has reached
//   hostile lock SOCKET MOUNT            keeps the lock of each: its entries are read into memory that never comes
//   hostile serve SOCKET                 gets descriptors of /dev/fuse, and answers the first request of each only
//   hostile wait SOCKET MOUNT            has a file system there that `serve` answers for, and waits in it
//   hostile directories PARENT COUNT     makes COUNT directories in PARENT, with one in each
//   hostile fill FILE                    writes to it until nothing fits on the disk, and then a file per byte
//   hostile subvolume PARENT NAME        makes a btrfs subvolume
//   hostile subvolume PARENT NAME ro     the same, with a directory in it, read-only
//   hostile project ID DIRECTORY         gives it a project, which what is made in it inherits
//   hostile limit ID DIRECTORY MIB       limits what the project may use on the file system of DIRECTORY
//   hostile used ID DIRECTORY            prints how many bytes the project uses there
//   hostile projects DIRECTORY           lists the projects there that have something: id, bytes, limit, inodes, limit
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int check(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

// ---- descriptors of other jobs

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	return address;
}

static int listener(const char *path)
{
	struct sockaddr_un to = address(path);
	int fd = check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");

	unlink(path);
	check(bind(fd, (struct sockaddr *)&to, sizeof to), path);
	check(listen(fd, 64), path);
	return fd;
}

static int connection(const char *path)
{
	struct sockaddr_un to = address(path);
	int fd = check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");

	check(connect(fd, (struct sockaddr *)&to, sizeof to), path);
	return fd;
}

struct message {
	char byte;
	struct iovec vector;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr header;
};

static struct msghdr *prepare(struct message *message)
{
	memset(message, 0, sizeof *message);
	message->vector = (struct iovec){ &message->byte, 1 };
	message->header = (struct msghdr){
		.msg_iov = &message->vector,
		.msg_iovlen = 1,
		.msg_control = &message->control,
		.msg_controllen = sizeof message->control,
	};
	return &message->header;
}

static void send_descriptor(int to, int fd)
{
	struct message message;
	struct msghdr *header = prepare(&message);

	message.control.header = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof fd),
	};
	memcpy(CMSG_DATA(&message.control.header), &fd, sizeof fd);
	check(sendmsg(to, header, 0), "sendmsg");
}

static int receive_descriptor(int from)
{
	struct message message;
	int fd;

	if (recvmsg(from, prepare(&message), MSG_CMSG_CLOEXEC) != 1 || message.header.msg_controllen == 0)
		return -1;
	memcpy(&fd, CMSG_DATA(&message.control.header), sizeof fd);
	return fd;
}

// `part` is done by a process of its own for each descriptor that comes. It writes to the socket when its sender may end.
static void serve_each(const char *path, void (*part)(int fd, int answer, int number))
{
	int from = listener(path);

	signal(SIGCHLD, SIG_IGN);
	for (int number = 0;; number++) {
		int client = accept4(from, NULL, NULL, SOCK_CLOEXEC), fd;

		if (client < 0)
			continue;
		while ((fd = receive_descriptor(client)) >= 0) {
			if (fork() == 0) {
				part(fd, client, number);
				_exit(0);
			}
			close(fd);
			number++;
		}
		close(client);
	}
}

static void answer(int to)
{
	if (write(to, "r", 1) != 1)
		fail("answer");
}

static void send_directories(const char *path, char **directories)
{
	char byte;

	for (; *directories; directories++) {
		int to = connection(path);

		send_descriptor(to, check(open(*directories, O_RDONLY | O_DIRECTORY), *directories));
		if (read(to, &byte, 1) != 1)
			fail("nobody answers");
		close(to);
	}
}

// ---- a chain without end

#define MARKS 32
static int lead, files;

// The removal has reached a directory when it belongs to another user, or is gone.
static int is_reached(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) || stat.st_nlink == 0 || stat.st_uid != getuid();
}

static int one_level(int bottom)
{
	char name[32];
	int next, first;

	check(mkdirat(bottom, "d", 0700), "mkdirat");
	next = check(openat(bottom, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "openat");
	if (files) {
		first = check(openat(next, "0", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "0");
		close(first);
	}
	for (int i = 1; i < files; i++) {
		snprintf(name, sizeof name, "%d", i);
		check(linkat(next, "0", next, name, 0), "linkat");
	}
	close(bottom);
	return next;
}

static void extend(int bottom, int to, int number)
{
	int marks[MARKS], head = 0, count = 0, step = lead / MARKS ? lead / MARKS : 1;

	(void)number;
	for (;;) {
		if (count == MARKS) {
			if (to >= 0) {
				answer(to);
				close(to);
				to = -1;
			}
			if (!is_reached(marks[head])) {
				usleep(100);
				continue;
			}
			close(marks[head]);
			head = (head + 1) % MARKS;
			count--;
		}
		for (int i = 0; i < step; i++)
			bottom = one_level(bottom);
		marks[(head + count++) % MARKS] = check(fcntl(bottom, F_DUPFD_CLOEXEC, 0), "dup");
	}
}

// ---- FUSE

static void put(const char *path, const char *format, unsigned int id)
{
	int fd = check(open(path, O_WRONLY), path);

	if (dprintf(fd, format, id) < 0)
		fail(path);
	close(fd);
}

// A file system of the user's own, in a user and a mount namespace. Returns the descriptor that answers for it.
static int mount_fuse(const char *where)
{
	unsigned int uid = getuid(), gid = getgid();
	char options[128];
	int fd;

	check(unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
	put("/proc/self/setgroups", "deny", 0);
	put("/proc/self/uid_map", "0 %u 1\n", uid);
	put("/proc/self/gid_map", "0 %u 1\n", gid);
	fd = check(open("/dev/fuse", O_RDWR | O_CLOEXEC), "/dev/fuse");
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	check(mount("hostile", where, "fuse", MS_NOSUID | MS_NODEV, options), where);
	return fd;
}

static char request[1 << 17];

static const struct fuse_in_header *next_request(int fd)
{
	ssize_t size;

	do
		size = read(fd, request, sizeof request);
	while (size < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT));
	return size > 0 ? (const void *)request : NULL;
}

static void reply(int fd, const struct fuse_in_header *to, int error, const void *data, size_t size)
{
	char room[512];
	struct fuse_out_header header = { .len = sizeof header + size, .error = -error, .unique = to->unique };

	memcpy(room, &header, sizeof header);
	memcpy(room + sizeof header, data, size);
	// Whoever asked may be gone.
	(void)!write(fd, room, header.len);
}

static void reply_to_init(int fd, const struct fuse_in_header *to)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_readahead = 65536,
		.max_background = 16,
		.congestion_threshold = 12,
		.max_write = 65536,
	};

	reply(fd, to, 0, &init, sizeof init);
}

#define SIZE (1 << 20)

// One file of a megabyte, which cannot be read.
static void serve_file(int fd)
{
	struct fuse_attr file = { .ino = 2, .size = SIZE, .mode = S_IFREG | 0600, .nlink = 1, .blksize = 4096 };
	struct fuse_attr root = { .ino = 1, .mode = S_IFDIR | 0700, .nlink = 2, .blksize = 4096 };
	struct fuse_entry_out entry = { .nodeid = 2, .entry_valid = 9999, .attr_valid = 9999, .attr = file };
	struct fuse_attr_out attributes = { .attr_valid = 9999 };
	struct fuse_open_out opened = { .fh = 1 };
	const struct fuse_in_header *in;

	while ((in = next_request(fd))) {
		switch (in->opcode) {
		case FUSE_INIT:
			reply_to_init(fd, in);
			break;
		case FUSE_LOOKUP:
			reply(fd, in, 0, &entry, sizeof entry);
			break;
		case FUSE_GETATTR:
			attributes.attr = in->nodeid == 1 ? root : file;
			reply(fd, in, 0, &attributes, sizeof attributes);
			break;
		case FUSE_OPEN:
			reply(fd, in, 0, &opened, sizeof opened);
			break;
		case FUSE_READ: // never
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			reply(fd, in, ENOSYS, "", 0);
		}
	}
}

static int never_read;

// getdents64 has the lock of the directory while it writes to memory, and this memory is not there yet.
static void keep_lock(int directory, int to, int number)
{
	void *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, never_read, (number * 65536L) % SIZE);

	if (memory == MAP_FAILED)
		fail("mmap");
	if (fork() == 0) {
		syscall(SYS_getdents64, directory, memory, 65536);
		_exit(0);
	}
	// Until it waits there; nothing else tells.
	usleep(500000);
	answer(to);
}

static void lock_directories(const char *path, const char *where)
{
	char file[256];
	int fd = mount_fuse(where);

	if (fork() == 0) {
		serve_file(fd);
		_exit(0);
	}
	close(fd);
	snprintf(file, sizeof file, "%s/file", where);
	never_read = check(open(file, O_RDWR | O_CLOEXEC), file);
	serve_each(path, keep_lock);
}

static void serve_init_only(int fd, int to, int number)
{
	const struct fuse_in_header *in;

	(void)number;
	while ((in = next_request(fd))) {
		if (in->opcode == FUSE_INIT) {
			reply_to_init(fd, in);
			answer(to);
		}
	}
}

static void wait_in_fuse(const char *path, const char *where)
{
	char file[256], byte;
	struct stat stat_of_file;
	int to = connection(path), fd = mount_fuse(where);

	send_descriptor(to, fd);
	close(fd);
	if (read(to, &byte, 1) != 1)
		fail("nobody answers");
	close(to);
	snprintf(file, sizeof file, "%s/file", where);
	if (fork() == 0) {
		stat(file, &stat_of_file);
		_exit(0);
	}
	usleep(500000);
	puts("waits");
	fflush(stdout);
	pause();
}

// ---- file systems

static void make_directories(const char *parent, int count)
{
	int fd = check(open(parent, O_RDONLY | O_DIRECTORY), parent);
	char name[64];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%d", i);
		check(mkdirat(fd, name, 0700), name);
		snprintf(name, sizeof name, "%d/in", i);
		check(mkdirat(fd, name, 0700), name);
	}
}

// One byte each, until three in a row do not fit.
static int fill_with_files(const char *path, int round)
{
	char name[512];
	int made = 0;

	for (int failed = 0; failed < 3;) {
		int fd;

		snprintf(name, sizeof name, "%s.%d.%d", path, round, made + failed);
		fd = open(name, O_CREAT | O_WRONLY, 0600);
		if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd))
			failed++;
		else
			made++;
		close(fd);
	}
	return made;
}

static void fill(const char *path)
{
	static char megabyte[1 << 20];
	int fd = open(path, O_CREAT | O_WRONLY, 0600), round = 0;

	for (ssize_t size = sizeof megabyte; size;) {
		if (write(fd, megabyte, size) <= 0)
			size /= 2;
	}
	fsync(fd);
	// What was set aside for writing is free again when it has been written.
	do
		sync();
	while (fill_with_files(path, round++) && round < 20);
}

static void make_subvolume(const char *parent, const char *name, int read_only)
{
	struct btrfs_ioctl_vol_args arguments = { 0 };
	unsigned long long flags = BTRFS_SUBVOL_RDONLY;
	int dir = check(open(parent, O_RDONLY | O_DIRECTORY), parent), subvolume;

	snprintf(arguments.name, sizeof arguments.name, "%s", name);
	check(ioctl(dir, BTRFS_IOC_SUBVOL_CREATE, &arguments), name);
	if (read_only) {
		subvolume = check(openat(dir, name, O_RDONLY | O_DIRECTORY), name);
		check(mkdirat(subvolume, "in", 0700), "in");
		check(ioctl(subvolume, BTRFS_IOC_SUBVOL_SETFLAGS, &flags), name);
	}
}

static void set_project(int id, const char *path)
{
	int fd = check(open(path, O_RDONLY | O_DIRECTORY), path);
	struct fsxattr attributes;

	check(ioctl(fd, FS_IOC_FSGETXATTR, &attributes), path);
	attributes.fsx_projid = id;
	attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	check(ioctl(fd, FS_IOC_FSSETXATTR, &attributes), path);
}

static void limit_project(int id, const char *path, int mebibytes)
{
	struct dqblk limit = { .dqb_bhardlimit = 1024ull * mebibytes, .dqb_valid = QIF_BLIMITS };
	int fd = check(open(path, O_RDONLY | O_DIRECTORY), path);

	check(syscall(SYS_quotactl_fd, fd, QCMD(Q_SETQUOTA, PRJQUOTA), id, &limit), path);
}

static long long used_by_project(int id, const char *path)
{
	struct dqblk usage = { 0 };
	int fd = check(open(path, O_RDONLY | O_DIRECTORY), path);

	check(syscall(SYS_quotactl_fd, fd, QCMD(Q_GETQUOTA, PRJQUOTA), id, &usage), path);
	return usage.dqb_curspace;
}

// struct if_nextdqblk of linux/quota.h, which cannot be included beside sys/quota.h.
struct next_quota {
	unsigned long long space_limit, space_soft, space, inode_limit, inode_soft, inodes, times[2];
	unsigned valid, id;
};

static void list_projects(const char *path)
{
	int fd = check(open(path, O_RDONLY | O_DIRECTORY), path);
	struct next_quota next = { 0 };
	const int get_next = 0x800009;

	for (unsigned id = 0; !syscall(SYS_quotactl_fd, fd, QCMD(get_next, PRJQUOTA), id, &next); id = next.id + 1) {
		if (next.space || next.inodes || next.space_limit || next.inode_limit)
			printf("%u %llu %llu %llu %llu\n", next.id, next.space, next.space_limit * 1024, next.inodes, next.inode_limit);
	}
	if (errno != ENOENT)
		fail(path);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "send") && argc > 3) {
		send_directories(argv[2], argv + 3);
	} else if (!strcmp(what, "chain") && argc == 5) {
		lead = atoi(argv[3]);
		files = atoi(argv[4]);
		serve_each(argv[2], extend);
	} else if (!strcmp(what, "lock") && argc == 4) {
		lock_directories(argv[2], argv[3]);
	} else if (!strcmp(what, "serve") && argc == 3) {
		serve_each(argv[2], serve_init_only);
	} else if (!strcmp(what, "wait") && argc == 4) {
		wait_in_fuse(argv[2], argv[3]);
	} else if (!strcmp(what, "directories") && argc == 4) {
		make_directories(argv[2], atoi(argv[3]));
	} else if (!strcmp(what, "fill") && argc == 3) {
		fill(argv[2]);
	} else if (!strcmp(what, "subvolume") && argc >= 4) {
		make_subvolume(argv[2], argv[3], argc > 4);
	} else if (!strcmp(what, "project") && argc == 4) {
		set_project(atoi(argv[2]), argv[3]);
	} else if (!strcmp(what, "limit") && argc == 5) {
		limit_project(atoi(argv[2]), argv[3], atoi(argv[4]));
	} else if (!strcmp(what, "used") && argc == 4) {
		printf("%lld\n", used_by_project(atoi(argv[2]), argv[3]));
	} else if (!strcmp(what, "projects") && argc == 3) {
		list_projects(argv[2]);
	} else {
		fputs("hostile: see its first lines for what it can do\n", stderr);
		return 2;
	}
	return 0;
}
