// Programs that act as slurmd and slurmstepd: what both need to load a namespace plugin and to call it as Slurm does.
//
// No header of Slurm is used. Offsets are of x86-64, the same in Slurm 25.11, 26.05 and 26.11.
#pragma once
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// slurmd_conf_t
enum {
	CONF_SIZE = 4616,
	CONF_HOSTNAME = 4128,
	CONF_NODE_NAME = 4264,
	CONF_CONFFILE = 4296,
	CONF_TMP_FS = 4344,
	CONF_SPOOLDIR = 4360,
	CONF_STEPD_LOC = 4368,
};

// stepd_step_rec_t
enum {
	STEP_SIZE = 928,
	STEP_STEP_ID = 112,
	STEP_NNODES = 144,
	STEP_JOB_MEM = 264,
	STEP_CWD = 304,
	STEP_NODE_NAME = 320,
	STEP_UID = 384,
	STEP_USER_NAME = 392,
	STEP_GID = 424,
	STEP_CONT_ID = 704,
};

enum { SLURM_SUCCESS = 0, SLURM_ERROR = -1, IS_SLURMD = 0x10, IS_SLURMSTEPD = 0x20 };
#define NO_VAL 0xfffffffeU
#define SLURM_EXTERN_CONT 0xfffffffcU

struct step_id {
	uint64_t sluid;
	uint32_t job_id, step_het_comp, step_id;
};
_Static_assert(sizeof(struct step_id) == 24, "slurm_step_id_t");

struct ns_fd_map {
	int type, fd;
};

// The entry points of a plugin.
struct plugin {
	uint32_t version;
	int (*init)(void);
	void (*fini)(void);
	int (*restore)(char *dir_name, bool recover);
	int (*send_stepd)(int fd);
	int (*recv_stepd)(int fd);
	int (*stepd_create)(void *step);
	int (*stepd_delete)(void *step_or_step_id);
	int (*join)(struct step_id *, uid_t, bool step_create);
	int (*join_external)(struct step_id *, void *fd_map);
	bool (*can_bpf)(void *step);
	int (*setup_bpf_token)(void *step);
};

// Functions of libslurmfull.
struct slurm {
	int (*conf_init)(const char *);
	void *(*list_create)(void (*)(void *));
	void *(*list_pop)(void *);
	void (*list_append)(void *, void *);
	int (*list_count)(void *);
	void (*list_destroy)(void *);
	void (*xfree)(void **);
};

extern struct plugin plugin;
extern struct slurm slurm;
extern uint32_t slurm_daemon;
extern uint64_t load_ns, init_ns;

// Loads libslurmfull and the plugin, and calls init. Ends the process when something fails.
void load(const char *plugin_path, const char *slurm_conf, const char *version, const char *node);
struct step_id extern_step(uint32_t job);

uint64_t now_ns(void);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
// One line, without its newline, from a descriptor; false at its end.
bool read_line(int fd, char *line, size_t size);
void reply(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
int count_fds(void);
