// Plays slurmd: slurmd PLUGIN SLURM_CONF VERSION NODE SLURMSTEPD
//
// Loads the plugin, calls init, says "init LOAD-NS INIT-NS", and then obeys commands on its standard input, one a line,
// with one line for each on its standard output. JOB is a number; @JOB sends a command on to that job's slurmstepd.
//
//   restore             restore                                        restore RC NS
//   stepd JOB [UID]     starts a slurmstepd and sends it the settings  recv RC NS LOAD-NS INIT-NS (of slurmstepd)
//   @JOB COMMAND        see slurmstepd.c
//   kill JOB            SIGKILL for a slurmstepd                       kill 0
//   join JOB            join in a forked child                         join STATUS NS-OF-JOIN NS-OF-FORK-TO-END
//   run JOB COMMAND     join in a forked child, COMMAND by sh          run STATUS OUTPUT (newlines are |)
//   jobs FROM TO        stepd and create for many                      jobs FAILED
//   round JOB HOW       a whole life: stepd, create, join, external, delete HOW
//                                      round RECV CREATE JOIN FORK-TO-END EXTERNAL DELETE (ns, or a word that failed)
//   sends N             send_stepd by N threads at once                sends FAILED DIFFERENT-BYTES
//   send_bad            send_stepd to a pipe that nobody reads         send_bad RC ERRNO
//   mounts              lines of its mountinfo                         mounts N
#include "host.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

uint32_t slurm_daemon = IS_SLURMD;

static char **arguments;
static struct stepd {
	uint32_t job;
	pid_t pid;
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

// A slurmstepd that has the settings; its first line is in `line`.
static struct stepd *start_stepd(uint32_t job, const char *uid, char *line, size_t size)
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
		execl(arguments[5], "slurmstepd", arguments[1], arguments[2], arguments[3], arguments[4], number, uid,
		      NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	close(control[1]);
	*stepd = (struct stepd){.job = job, .pid = pid, .control = control[0], .pipe = from[0]};
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
		struct stepd *stepd = start_stepd(job, "1001", line, sizeof line);
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
	struct stepd *stepd = start_stepd(job, "1001", line, sizeof line);
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
			if (!alive || !strncmp(line + used, "delete", 6))
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
			start_stepd(job, *more ? more : "1001", answer, sizeof answer);
			reply(1, "%s", answer);
		} else if (!strcmp(word, "kill") && stepd) {
			kill(stepd->pid, SIGKILL);
			forget(stepd);
			reply(1, "kill 0");
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
