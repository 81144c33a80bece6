// Acts as slurmd: slurmd PLUGIN SLURM_CONF VERSION NODE SLURMSTEPD
//
// Loads the plugin, calls init, prints "init LOAD-NS INIT-NS", and then runs commands from its standard input, one a line,
// and prints one line for each. JOB is a number; @JOB forwards a command to that job's slurmstepd.
//
//   restore             restore                                        restore RC NS
//   stepd JOB [UID]     starts a slurmstepd and sends it the settings  recv RC NS LOAD-NS INIT-NS (of slurmstepd)
//   step JOB            starts a slurmstepd of step 0 in the job, as 1000 + JOB          as stepd
//   @JOB COMMAND        see slurmstepd.c
//   kill JOB            SIGKILL for a slurmstepd                       kill 0
//   login JOB [N]       acts as sshd with pam_slurm_adopt, where entry N of the list, from 0 on, cannot be entered
//                               login COUNT, and: aborts, or fork ERRNO, or the numbers of its mnt, pid, user and ipc
//   join JOB            join in a forked child                         join STATUS NS-OF-JOIN NS-OF-FORK-TO-END
//   run JOB COMMAND     join in a forked child, COMMAND by sh          run STATUS OUTPUT (newlines are |)
//   jobs FROM TO        stepd and create for many                      jobs FAILED
//   round JOB HOW       a whole life: stepd, create, join, external, delete HOW
//                                      round RECV CREATE JOIN FORK-TO-END EXTERNAL DELETE (ns, or a word that failed)
//   sends N             send_stepd by N threads at once                sends FAILED DIFFERENT-BYTES
//   send_bad            send_stepd to a pipe without a reader          send_bad RC ERRNO
//   mounts              lines of its mountinfo                         mounts N
#include "host.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

uint32_t slurm_daemon = IS_SLURMD;

static char **arguments;
static struct stepd {
	uint32_t job;
	pid_t pid, itself; // a step has another parent
	int control, pipe;
} stepds[4096];

static struct stepd *stepd_of(uint32_t job)
{
	for (size_t i = 0; i < sizeof stepds / sizeof *stepds; i++)
		if (stepds[i].job == job)
			return &stepds[i];
	return NULL;
}

static bool ask(struct stepd *stepd, const char *command, char *line, size_t size)
{
	dprintf(stepd->control, "%s\n", command);
	if (read_line(stepd->control, line, size))
		return true;
	int status = -1;
	waitpid(stepd->pid, &status, 0);
	stepd->pid = 0;
	snprintf(line, size, "slurmstepd is gone, status %x", (unsigned)status);
	return false;
}

static void forget(struct stepd *stepd)
{
	close(stepd->control);
	close(stepd->pipe);
	if (stepd->pid)
		waitpid(stepd->pid, NULL, 0);
	*stepd = (struct stepd){0};
}

// A slurmstepd that has the settings; its first line is in `line`. One of a step is in the namespaces of the job.
static struct stepd *start_stepd(uint32_t job, bool is_step, const char *uid, char *line, size_t size)
{
	struct stepd *stepd = stepd_of(0);
	int to[2], from[2], control[2];
	if (!stepd || pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control))
		die("no slurmstepd: %s", strerror(errno));
	char number[16];
	snprintf(number, sizeof number, "%u", job);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		if (control[1] == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(control[1], 3);
		if (is_step) {
			struct step_id id = {.job_id = job, .step_het_comp = NO_VAL, .step_id = 0};
			int status;
			if (plugin.join(&id, 1001, true))
				_exit(255);
			// As slurmd: only a second child is in the PID namespace.
			pid_t second = fork();
			if (second) {
				status = write(1, &second, sizeof second) != sizeof second;
				for (int fd = 0; fd < 64; fd++)
					close(fd);
				waitpid(second, NULL, 0);
				_exit(status);
			}
		}
		execl(arguments[5], "slurmstepd", arguments[1], arguments[2], arguments[3], arguments[4], number, uid,
		      is_step ? "0" : NULL, NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	close(control[1]);
	*stepd = (struct stepd){.job = is_step ? 1000 + job : job, .pid = pid, .itself = pid, .control = control[0], .pipe = from[0]};
	if (is_step && read(from[0], &stepd->itself, sizeof stepd->itself) != sizeof stepd->itself)
		stepd->itself = 0;
	int rc = plugin.send_stepd(to[1]);
	close(to[1]);
	if (rc || !read_line(stepd->control, line, size)) {
		snprintf(line, size, "send_stepd gave %d, and slurmstepd is gone", rc);
		forget(stepd);
		return NULL;
	}
	return stepd;
}

// join in a child, with the time that it took, and then `command`, if there is one, with its output.
static int join(uint32_t job, const char *command, uint64_t *join_ns, uint64_t *whole_ns, char *output, size_t size)
{
	struct step_id id = {.job_id = job, .step_het_comp = NO_VAL, .step_id = 0};
	int pipes[2];
	if (pipe2(pipes, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	uint64_t start = now_ns();
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t begin = now_ns();
		int rc = plugin.join(&id, 1001, true);
		uint64_t took = now_ns() - begin;
		if (rc)
			_exit(255);
		if (!command)
			_exit(write(pipes[1], &took, sizeof took) != sizeof took);
		// As slurmd: only a second child is in the PID namespace.
		pid_t second = fork();
		if (second == 0) {
			dup2(pipes[1], 1);
			dup2(pipes[1], 2);
			execl("/bin/sh", "sh", "-c", command, NULL);
			_exit(127);
		}
		int status = -1;
		waitpid(second, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
	close(pipes[1]);
	int status = -1;
	if (!command) {
		waitpid(pid, &status, 0);
		*whole_ns = now_ns() - start;
		if (read(pipes[0], join_ns, sizeof *join_ns) != sizeof *join_ns)
			*join_ns = 0;
	} else {
		size_t length = 0;
		ssize_t n;
		while ((n = read(pipes[0], output + length, size - 1 - length)) > 0)
			length += (size_t)n;
		output[length] = 0;
		for (char *c = output; *c; c++)
			if (*c == '\n')
				*c = '|';
		waitpid(pid, &status, 0);
	}
	close(pipes[0]);
	return status;
}

static void jobs(uint32_t from, uint32_t to)
{
	char line[512];
	int failed = 0, rc;
	for (uint32_t job = from; job < to; job++) {
		struct stepd *stepd = start_stepd(job, false, "1001", line, sizeof line);
		failed += !stepd || !ask(stepd, "create", line, sizeof line) || sscanf(line, "create %d", &rc) != 1 || rc;
	}
	reply(1, "jobs %d", failed);
}

static void round_of(uint32_t job, const char *how)
{
	char line[512], command[64];
	int rc;
	unsigned long recv = 0, create = 0, external = 0, delete = 0;
	uint64_t joined = 0, whole = 0;
	const char *failed = NULL;
	struct stepd *stepd = start_stepd(job, false, "1001", line, sizeof line);
	if (!stepd || sscanf(line, "recv %d %lu", &rc, &recv) != 2 || rc) {
		reply(1, "round recv failed: %s", line);
		return;
	}
	if (!ask(stepd, "create", line, sizeof line) || sscanf(line, "create %d %lu", &rc, &create) != 2 || rc)
		failed = "create";
	if (!failed && join(job, NULL, &joined, &whole, NULL, 0))
		failed = "join";
	if (!failed && (!ask(stepd, "external", line, sizeof line) ||
			sscanf(line, "external %d %lu", &rc, &external) != 2 || rc < 1))
		failed = "external";
	snprintf(command, sizeof command, "delete %s", how);
	if (stepd->pid && (!ask(stepd, command, line, sizeof line) || sscanf(line, "delete %d %lu", &rc, &delete) != 2 || rc) &&
	    !failed)
		failed = "delete";
	forget(stepd);
	if (failed)
		reply(1, "round %s failed", failed);
	else
		reply(1, "round %lu %lu %lu %lu %lu %lu", recv, create, joined, whole, external, delete);
}

// What a login of pam_slurm_adopt comes to: _adopt_process and stepd_get_namespace_fds of 25.11 to 26.11.
//
// They enter one entry after the other, in the order of the list, and stop at the first that fails. What they make of a
// failure is `int rc` of an inner block, so the login goes on as if all was well, and so it does without a list. Before
// 26.11 a list that could not be had is freed twice, which ends sshd. sshd then forks the process that becomes the user's.
static void login(struct stepd *stepd, int broken)
{
	static const char *const kinds[] = {"mnt", "pid", "user", "ipc"};
	struct ns_fd_map entries[8];
	char line[512];
	int pipes[2], count = -1, used = 0, more = 0, entered = 0;
	if (!ask(stepd, "list", line, sizeof line) || sscanf(line, "list %d%n", &count, &used) != 1) {
		reply(1, "%s", line);
		return;
	}
	int process = (int)syscall(SYS_pidfd_open, stepd->itself, 0);
	for (; entered < 8; entered++, used += more) {
		struct ns_fd_map *entry = &entries[entered];
		if (sscanf(line + used, "%d:%d%n", &entry->type, &entry->fd, &more) != 2)
			break;
		entry->fd = (int)syscall(SYS_pidfd_getfd, process, entry->fd, 0);
		if (entry->fd < 0)
			die("no descriptor of slurmstepd: %s", strerror(errno));
	}
	close(process);
	ask(stepd, "", line, sizeof line);
	if (pipe2(pipes, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	pid_t sshd = fork();
	if (sshd == 0) {
		if (count < 0 && plugin.version >> 8 < 0x1a0b)
			_exit(dprintf(pipes[1], " aborts") < 0);
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		for (int i = 0; i < entered; i++)
			if (setns(i == broken ? null : entries[i].fd, entries[i].type))
				break;
		pid_t user = fork();
		if (user < 0)
			_exit(dprintf(pipes[1], " fork %d", errno) < 0);
		for (size_t i = 0; user == 0 && i < sizeof kinds / sizeof *kinds; i++) {
			char path[64], link[64] = "";
			unsigned long number = 0;
			snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
			if (readlink(path, link, sizeof link - 1) < 0 || sscanf(link, "%*[a-z]:[%lu]", &number) != 1)
				number = 0;
			dprintf(pipes[1], " %lu", number);
		}
		_exit(user && waitpid(user, NULL, 0) != user);
	}
	close(pipes[1]);
	size_t length = 0;
	ssize_t n;
	while ((n = read(pipes[0], line + length, sizeof line - 1 - length)) > 0)
		length += (size_t)n;
	line[length] = 0;
	close(pipes[0]);
	waitpid(sshd, NULL, 0);
	while (entered)
		close(entries[--entered].fd);
	reply(1, "login %d%s", count, line);
}

struct sender {
	int rc;
	ssize_t length;
	char bytes[32768];
};

static void *send_one(void *argument)
{
	struct sender *sender = argument;
	int pipes[2];
	sender->rc = -1;
	if (pipe2(pipes, O_CLOEXEC))
		return NULL;
	sender->rc = plugin.send_stepd(pipes[1]); // less than a pipe holds
	close(pipes[1]);
	sender->length = read(pipes[0], sender->bytes, sizeof sender->bytes);
	close(pipes[0]);
	return NULL;
}

static void sends(unsigned n)
{
	static struct sender senders[64];
	pthread_t threads[64];
	int failed = 0, different = 0;
	if (n > 64)
		n = 64;
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, send_one, &senders[i]))
			die("no thread");
	for (unsigned i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		failed += senders[i].rc != 0 || senders[i].length <= 0;
		different += senders[i].length != senders[0].length ||
			     memcmp(senders[i].bytes, senders[0].bytes, (size_t)senders[0].length);
	}
	reply(1, "sends %d %d", failed, different);
}

static void send_bad(void)
{
	int pipes[2];
	if (pipe2(pipes, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	close(pipes[0]);
	errno = 0;
	int rc = plugin.send_stepd(pipes[1]), number = errno;
	close(pipes[1]);
	reply(1, "send_bad %d %d", rc, number);
}

static int count_mounts(void)
{
	int n = 0, c;
	FILE *file = fopen("/proc/self/mountinfo", "r");
	while (file && (c = getc(file)) != EOF)
		n += c == '\n';
	if (file)
		fclose(file);
	return n;
}

int main(int argc, char **argv)
{
	if (argc != 6)
		die("slurmd PLUGIN SLURM_CONF VERSION NODE SLURMSTEPD");
	arguments = argv;
	signal(SIGPIPE, SIG_IGN);
	load(argv[1], argv[2], argv[3], argv[4]);
	reply(1, "init %lu %lu", load_ns, init_ns);

	char line[4096];
	while (read_line(0, line, sizeof line)) {
		char word[32] = "", more[32] = "", answer[8192];
		uint32_t job = 0;
		uint64_t joined = 0, whole = 0;
		int used = 0;
		if (sscanf(line, "@%u %n", &job, &used) == 1 && used) {
			struct stepd *stepd = stepd_of(job);
			if (!stepd) {
				reply(1, "no slurmstepd of job %u", job);
				continue;
			}
			bool alive = ask(stepd, line + used, answer, sizeof answer);
			reply(1, "%s", answer);
			if (!alive || (!strncmp(line + used, "delete", 6) && strcmp(line + used, "delete stay")))
				forget(stepd);
			continue;
		}
		sscanf(line, "%31s %u %n%31s", word, &job, &used, more);
		struct stepd *stepd = job ? stepd_of(job) : NULL;
		if (!strcmp(word, "restore")) {
			uint64_t start = now_ns();
			int rc = plugin.restore("/var/spool/slurmd", true);
			reply(1, "restore %d %lu", rc, now_ns() - start);
		} else if (!strcmp(word, "stepd")) {
			start_stepd(job, false, *more ? more : "1001", answer, sizeof answer);
			reply(1, "%s", answer);
		} else if (!strcmp(word, "step")) {
			start_stepd(job, true, "1001", answer, sizeof answer);
			reply(1, "%s", answer);
		} else if (!strcmp(word, "kill") && stepd) {
			kill(stepd->itself, SIGKILL);
			forget(stepd);
			reply(1, "kill 0");
		} else if (!strcmp(word, "login") && stepd) {
			login(stepd, *more ? atoi(more) : -1);
		} else if (!strcmp(word, "join")) {
			int status = join(job, NULL, &joined, &whole, NULL, 0);
			reply(1, "join %d %lu %lu", status, joined, whole);
		} else if (!strcmp(word, "run")) {
			int status = join(job, line + used, &joined, &whole, answer, sizeof answer - 64);
			reply(1, "run %d %s", status, answer);
		} else if (!strcmp(word, "jobs")) {
			jobs(job, (uint32_t)atoi(more));
		} else if (!strcmp(word, "round")) {
			round_of(job, more);
		} else if (!strcmp(word, "sends")) {
			sends(job);
		} else if (!strcmp(word, "send_bad")) {
			send_bad();
		} else if (!strcmp(word, "mounts")) {
			reply(1, "mounts %d", count_mounts());
		} else {
			reply(1, "unknown command %s", line);
		}
	}
	return 0;
}
