// Acts as a slurmstepd of one job: slurmstepd PLUGIN SLURM_CONF VERSION NODE JOB UID [STEP]
//
// Without STEP it is the extern slurmstepd.
//
// Descriptor 0 is the pipe from slurmd, where the settings come from, 1 the pipe to it, 3 a socket on which slurmd.c
// sends commands, one a line, and gets one line for each:
//
//   create              stepd_create                                  create RC NS PAGE-FAULTS
//   delete [killed]     stepd_delete, killed: as Slurm, after all processes that were added to the step were killed
//                       and reaped; the process ends                  delete RC NS
//   delete stay         and the process does not end                  delete RC NS
//   loop N              N times create and delete, not for C           loop FAILED CREATE-NS DELETE-NS
//   external [N]        join_external N times                         external COUNT NS FDS-BEFORE FDS-AFTER TYPE:FD...
//   hold N              join_external N times, then all is closed     hold DESCRIPTORS DISTINCT-ONES
//   ask                 join_external in a thread that is left to wait ask
//   asked               what it has got; delete appends the same      asked COUNT
//   threads N           join_external by N threads at once            threads FAILED DISTINCT-FDS
//   list                join_external, whose entries stay open until the next line   list COUNT TYPE:FD...
//   join                join in a forked child                        join STATUS
//   join_vm [N]         N times join in a clone(CLONE_VM) child       join_vm STATUS FDS-BEFORE FDS-AFTER
//   nulls               every entry point with null and bad arguments nulls RC...
//   bpf                 can_bpf, setup_bpf_token                      bpf CAN RC
//   smaps               the holder's memory                           smaps PID RSS PSS PRIVATE (kB)
//   cpus                may run on every CPU again                    cpus 0
#include "host.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONTROL = 3 };

static char step_memory[STEP_SIZE] __attribute__((aligned(16)));
// What slurmstepd exports besides conf.
void *step = NULL;
uint32_t slurm_daemon = IS_SLURMSTEPD;

static pid_t tracked[1];
static int tracked_count;

int proctrack_g_add(void *of_step, pid_t pid)
{
	if (of_step != step_memory)
		return SLURM_ERROR;
	tracked[0] = pid;
	tracked_count = 1;
	return SLURM_SUCCESS;
}

#ifdef CALLER_OWNS_FDS
// Slurm 26.11 and later: who asks for descriptors closes and frees them.
void stepd_destroy_ns_fd_map(void *entry)
{
	struct ns_fd_map *map = entry;
	close(map->fd);
	slurm.xfree(&entry);
}
#define DESTRUCTOR stepd_destroy_ns_fd_map
#else
#define DESTRUCTOR NULL
#endif

static void set_text(size_t offset, const char *text)
{
	char *copy = strdup(text);
	memcpy(step_memory + offset, &copy, sizeof copy);
}

static void set_u32(size_t offset, uint32_t value) { memcpy(step_memory + offset, &value, sizeof value); }

static void make_step(uint32_t job, uint32_t uid, uint32_t step_id)
{
	struct step_id id = extern_step(job);
	id.step_id = step_id;
	memcpy(step_memory + STEP_STEP_ID, &id, sizeof id);
	set_u32(STEP_NNODES, 1);
	set_u32(STEP_UID, uid);
	set_u32(STEP_GID, uid);
	set_text(STEP_USER_NAME, "alice");
	set_text(STEP_CWD, "/tmp");
	set_text(STEP_NODE_NAME, "n1");
	uint64_t value = 100;
	memcpy(step_memory + STEP_JOB_MEM, &value, sizeof value);
	memcpy(step_memory + STEP_CONT_ID, &value, sizeof value);
	step = step_memory;
}

// By this socket slurmd knows that the step lives.
static void listen_socket(const char *node, uint32_t job, bool there)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "/var/spool/slurmd/%s_%u.%u", node, job, SLURM_EXTERN_CONT);
	unlink(address.sun_path);
	if (!there)
		return;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16))
		die("%s: %s", address.sun_path, strerror(errno));
}

static void create(void)
{
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	uint64_t start = now_ns();
	int rc = plugin.stepd_create(step);
	uint64_t took = now_ns() - start;
	getrusage(RUSAGE_SELF, &after);
	reply(CONTROL, "create %d %lu %ld", rc, took, after.ru_minflt - before.ru_minflt);
}

static struct {
	struct step_id id;
	int count;
	_Atomic pid_t thread;
	pthread_t handle;
} early;

static void *ask_early(void *unused)
{
	(void)unused;
	void *list = slurm.list_create(NULL);
	early.thread = gettid();
	early.count = plugin.join_external(&early.id, list);
	return NULL;
}

static bool is_asleep(pid_t thread)
{
	char path[64], text[64] = "";
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	close(fd);
	const char *state = strrchr(text, ')');
	// A thread that has ended waits no more.
	return got <= 0 || (state && state[2] != 'R');
}

static void ask_in_thread(uint32_t job)
{
	early.id = extern_step(job);
	if (pthread_create(&early.handle, NULL, ask_early, NULL))
		die("no thread");
	while (!early.thread || !is_asleep(early.thread))
		usleep(1000);
	reply(CONTROL, "ask");
}

static int asked(void)
{
	pthread_join(early.handle, NULL);
	early.thread = 0;
	return early.count;
}

// What pam_slurm_adopt asks for. slurmd.c plays it, and takes the descriptors from this process.
static void list_for_login(uint32_t job)
{
	char text[256] = "";
	struct ns_fd_map *map;
	struct step_id id = extern_step(job);
	void *list = slurm.list_create(DESTRUCTOR);
	int count = plugin.join_external(&id, list);
	void *kept = slurm.list_create(DESTRUCTOR);
	while ((map = slurm.list_pop(list))) {
		size_t used = strlen(text);
		snprintf(text + used, sizeof text - used, " %d:%d", map->type, map->fd);
		slurm.list_append(kept, map);
	}
	slurm.list_destroy(list);
	reply(CONTROL, "list %d%s", count, text);
	if (!read_line(CONTROL, text, sizeof text))
		exit(1);
	slurm.list_destroy(kept);
	reply(CONTROL, "listed");
}

static void delete(const char *how, const char *node, uint32_t job)
{
	listen_socket(node, job, false); // before stepd_delete, as Slurm
	if (!strcmp(how, "killed")) {
		for (int i = 0; i < tracked_count; i++)
			kill(tracked[i], SIGKILL);
		for (int i = 0; i < tracked_count; i++)
			waitpid(tracked[i], NULL, 0);
	}
	struct step_id id = extern_step(job);
	// The argument changed in 26.05.
	void *argument = (plugin.version >> 8) == 0x190b ? (void *)&id : step;
	uint64_t start = now_ns();
	int rc = plugin.stepd_delete(argument);
	uint64_t took = now_ns() - start;
	if (early.thread)
		reply(CONTROL, "delete %d %lu asked %d", rc, took, asked());
	else
		reply(CONTROL, "delete %d %lu", rc, took);
	if (strcmp(how, "stay"))
		exit(0); // without fini, as slurmstepd
}

// Not as in Slurm, where a slurmstepd has one job: for profilers.
static void loop(int times, uint32_t job)
{
	uint64_t creating = 0, start = now_ns();
	int failed = 0;
	for (int i = 1; i <= times; i++) {
		set_u32(STEP_STEP_ID + 8, job + (uint32_t)i);
		uint64_t begin = now_ns();
		failed += plugin.stepd_create(step) != 0;
		creating += now_ns() - begin;
		failed += plugin.stepd_delete(step) != 0;
	}
	set_u32(STEP_STEP_ID + 8, job);
	reply(CONTROL, "loop %d %lu %lu", failed, creating / (uint64_t)times, (now_ns() - start - creating) / (uint64_t)times);
}

static void external(int times, uint32_t job)
{
	struct step_id id = extern_step(job);
	char text[256] = "";
	uint64_t took = 0;
	int count = 0, before = count_fds();
	for (int i = 0; i < times; i++) {
		void *list = slurm.list_create(DESTRUCTOR);
		uint64_t start = now_ns();
		count = plugin.join_external(&id, list);
		took = now_ns() - start;
		text[0] = 0;
		struct ns_fd_map *map;
		while ((map = slurm.list_pop(list))) {
			size_t used = strlen(text);
			snprintf(text + used, sizeof text - used, " %x:%d:%d", (unsigned)map->type, map->fd,
				 fcntl(map->fd, F_GETFD));
#ifdef CALLER_OWNS_FDS
			stepd_destroy_ns_fd_map(map);
#endif
		}
		slurm.list_destroy(list);
	}
	reply(CONTROL, "external %d %lu %d %d%s", count, took, before, count_fds(), text);
}

static void hold(int times, uint32_t job)
{
	static char seen[4096];
	struct step_id id = extern_step(job);
	int all = 0, distinct = 0;
	for (int i = 0; i < times; i++) {
		void *list = slurm.list_create(DESTRUCTOR);
		plugin.join_external(&id, list);
		struct ns_fd_map *map;
		while ((map = slurm.list_pop(list))) {
			bool open = map->fd >= 0 && map->fd < 4096 && fcntl(map->fd, F_GETFD) >= 0;
			all++;
			distinct += open && !seen[map->fd];
			if (open)
				seen[map->fd] = 1;
		}
		slurm.list_destroy(list);
	}
#ifdef CALLER_OWNS_FDS
	for (int fd = 0; fd < 4096; fd++)
		if (seen[fd])
			close(fd);
#endif
	reply(CONTROL, "hold %d %d", all, distinct);
}

struct asker {
	pthread_barrier_t *barrier;
	struct step_id id;
	int count, fds[8];
	void *list;
};

static void *ask(void *argument)
{
	struct asker *asker = argument;
	asker->list = slurm.list_create(DESTRUCTOR);
	pthread_barrier_wait(asker->barrier);
	asker->count = plugin.join_external(&asker->id, asker->list);
	struct ns_fd_map *map;
	for (int i = 0; i < 8 && (map = slurm.list_pop(asker->list)); i++)
		asker->fds[i] = map->fd;
	return NULL;
}

static void threads(int n, uint32_t job)
{
	pthread_barrier_t barrier;
	pthread_t thread[256];
	static struct asker askers[256];
	if (n > 256)
		n = 256;
	pthread_barrier_init(&barrier, NULL, (unsigned)n);
	for (int i = 0; i < n; i++) {
		askers[i] = (struct asker){.barrier = &barrier, .id = extern_step(job)};
		memset(askers[i].fds, -1, sizeof askers[i].fds);
		if (pthread_create(&thread[i], NULL, ask, &askers[i]))
			die("no thread");
	}
	int failed = 0, distinct = 0;
	static char seen[65536];
	for (int i = 0; i < n; i++) {
		pthread_join(thread[i], NULL);
		failed += askers[i].count < 1 || askers[i].count != askers[0].count;
		for (int j = 0; j < 8; j++) {
			int fd = askers[i].fds[j];
			if (fd >= 0 && fd < 65536 && !seen[fd]) {
				seen[fd] = 1;
				distinct++;
				failed += fcntl(fd, F_GETFD) < 0;
			}
		}
	}
#ifdef CALLER_OWNS_FDS
	for (int fd = 0; fd < 65536; fd++)
		if (seen[fd])
			close(fd);
#endif
	reply(CONTROL, "threads %d %d %d", failed, distinct, askers[0].count);
}

static int join_child(void *argument)
{
	uint32_t job = *(uint32_t *)argument;
	struct step_id id = extern_step(job);
	_exit(plugin.join(&id, 1001, false) ? 1 : 0);
}

static void join(uint32_t job)
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0)
		join_child(&job);
	waitpid(pid, &status, 0);
	reply(CONTROL, "join %d", status);
}

// As slurmstepd with SlurmdParameters=contain_spank: the child shares this memory, and nothing else.
static void join_vm(int times, uint32_t job)
{
	size_t size = 8 << 20;
	char *stack = malloc(size);
	int status = 0, before = count_fds();
	for (int i = 0; i < times && !status; i++) {
		pid_t pid = clone(join_child, stack + size, CLONE_VM | SIGCHLD, &job);
		if (pid < 0)
			die("clone: %s", strerror(errno));
		waitpid(pid, &status, 0);
	}
	free(stack);
	reply(CONTROL, "join_vm %d %d %d", status, before, count_fds());
}

static void nulls(uint32_t job)
{
	struct step_id id = extern_step(job);
	void *list = slurm.list_create(NULL);
	int pipes[2];
	if (pipe2(pipes, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	char garbage[64];
	memset(garbage, 0xff, sizeof garbage);
	if (write(pipes[1], garbage, sizeof garbage) < 0)
		die("write: %s", strerror(errno));
	close(pipes[1]);
	// The first recv_stepd from the pipe finds no settings in it, the second its end. A failure is any but 0.
	int rc[] = {plugin.stepd_create(NULL), plugin.join(NULL, 0, false), plugin.join_external(NULL, list),
		    plugin.join_external(&id, NULL), plugin.can_bpf(NULL), plugin.setup_bpf_token(NULL),
		    plugin.recv_stepd(-1), plugin.send_stepd(-1), plugin.recv_stepd(pipes[0]), plugin.recv_stepd(pipes[0])};
	close(pipes[0]);
	slurm.list_destroy(list);
	char text[256] = "";
	for (size_t i = 0; i < sizeof rc / sizeof *rc; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), " %d", rc[i]);
	reply(CONTROL, "nulls%s", text);
}

static void smaps(void)
{
	char path[64], line[256];
	long rss = 0, pss = 0, private = 0, value;
	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", tracked_count ? tracked[0] : 0);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file)) {
		if (sscanf(line, "Rss: %ld", &value) == 1)
			rss = value;
		else if (sscanf(line, "Pss: %ld", &value) == 1)
			pss = value;
		else if (sscanf(line, "Private_%*[a-zA-Z]: %ld", &value) == 1)
			private += value;
	}
	if (file)
		fclose(file);
	reply(CONTROL, "smaps %d %ld %ld %ld", tracked_count ? tracked[0] : 0, rss, pss, private);
}

static void every_cpu(void)
{
	cpu_set_t set;
	memset(&set, 0xff, sizeof set);
	reply(CONTROL, "cpus %d", sched_setaffinity(0, sizeof set, &set));
}

int main(int argc, char **argv)
{
	if (argc != 7 && argc != 8)
		die("slurmstepd PLUGIN SLURM_CONF VERSION NODE JOB UID [STEP]");
	uint32_t job = (uint32_t)strtoul(argv[5], NULL, 10);
	fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
	// Slurm blocks it in all threads of a slurmstepd.
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	load(argv[1], argv[2], argv[3], argv[4]);
	uint64_t start = now_ns();
	int rc = plugin.recv_stepd(0);
	reply(CONTROL, "recv %d %lu %lu %lu", rc, now_ns() - start, load_ns, init_ns);
	make_step(job, (uint32_t)strtoul(argv[6], NULL, 10), argc > 7 ? (uint32_t)atoi(argv[7]) : SLURM_EXTERN_CONT);
	if (argc == 7)
		listen_socket(argv[4], job, true);

	char line[256];
	while (read_line(CONTROL, line, sizeof line)) {
		char word[32] = "", more[32] = "";
		sscanf(line, "%31s %31s", word, more);
		int number = *more ? atoi(more) : 1;
		if (!strcmp(word, "create"))
			create();
		else if (!strcmp(word, "loop"))
			loop(number, job);
		else if (!strcmp(word, "delete"))
			delete(more, argv[4], job);
		else if (!strcmp(word, "external"))
			external(number, job);
		else if (!strcmp(word, "hold"))
			hold(number, job);
		else if (!strcmp(word, "threads"))
			threads(number, job);
		else if (!strcmp(word, "ask"))
			ask_in_thread(job);
		else if (!strcmp(word, "asked"))
			reply(CONTROL, "asked %d", asked());
		else if (!strcmp(word, "list"))
			list_for_login(job);
		else if (!strcmp(word, "join"))
			join(job);
		else if (!strcmp(word, "join_vm"))
			join_vm(number, job);
		else if (!strcmp(word, "nulls"))
			nulls(job);
		else if (!strcmp(word, "bpf"))
			reply(CONTROL, "bpf %d %d", plugin.can_bpf(step), plugin.setup_bpf_token(step));
		else if (!strcmp(word, "smaps"))
			smaps();
		else if (!strcmp(word, "cpus"))
			every_cpu();
		else
			reply(CONTROL, "unknown command %s", word);
	}
	return 0;
}
