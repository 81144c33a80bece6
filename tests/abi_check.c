/*
 * What tests/abi_check.rs asks of the headers of a configured Slurm source tree: a row for each offset, size, number and
 * prototype that the plugin relies on. It is compiled and not run: the test reads the rows in the object file, which may
 * be for another architecture.
 */
#include <pthread.h>
#include <stddef.h>

#include "slurm/slurm.h"
#include "slurm/slurm_version.h"
#include "src/common/list.h"
#include "src/common/log.h"
#include "src/common/sluid.h"
#include "src/common/stepd_api.h"
#include "src/common/stepd_proxy.h"
#include "src/common/xmalloc.h"
#include "src/interfaces/cgroup.h"
#include "src/interfaces/gres.h"
#include "src/interfaces/namespace.h"
#include "src/interfaces/proctrack.h"
#include "src/interfaces/switch.h"
#include "src/slurmd/slurmd/slurmd.h"
#include "src/slurmd/slurmstepd/slurmstepd_job.h"

#define NUMBER(name, value) { name, (unsigned long long)(value) }
#define OFFSET(name, type, field) NUMBER(name, offsetof(type, field))
#define IS(function, ...) _Generic(&function, __VA_ARGS__: 1, default: 0)
/* 1 where the headers declare `function` with just this type. */
#define PROTOTYPE(function, ...) NUMBER(#function, IS(function, __VA_ARGS__))
#define WIDTH(name, type, field) NUMBER(name, sizeof(((type *)0)->field))

const struct {
	char name[40];
	unsigned long long value;
} rows[] = {
	/* By this name the test finds the first row. */
	NUMBER("rows of abi_check.c begin here", 0),

	NUMBER("version", SLURM_VERSION_NUMBER),
	NUMBER("size of pthread_mutex_t", sizeof(pthread_mutex_t)),

	OFFSET("step::ALIAS_LIST", stepd_step_rec_t, alias_list),
	OFFSET("step::STEP_ID", stepd_step_rec_t, step_id),
	OFFSET("step::NNODES", stepd_step_rec_t, nnodes),
	OFFSET("step::HET_JOB_ID", stepd_step_rec_t, het_job_id),
	OFFSET("step::JOB_MEM", stepd_step_rec_t, job_mem),
	OFFSET("step::CPUS", stepd_step_rec_t, cpus),
	OFFSET("step::CWD", stepd_step_rec_t, cwd),
	OFFSET("step::UID", stepd_step_rec_t, uid),
	OFFSET("step::USER_NAME", stepd_step_rec_t, user_name),
	OFFSET("step::GID", stepd_step_rec_t, gid),
	OFFSET("step::JOB_ALLOC_CORES", stepd_step_rec_t, job_alloc_cores),
	OFFSET("step::JOB_GRES_LIST", stepd_step_rec_t, job_gres_list),
	WIDTH("width of nnodes", stepd_step_rec_t, nnodes),
	WIDTH("width of het_job_id", stepd_step_rec_t, het_job_id),
	WIDTH("width of job_mem", stepd_step_rec_t, job_mem),
	WIDTH("width of cpus", stepd_step_rec_t, cpus),

	OFFSET("conf::HOSTNAME", slurmd_conf_t, hostname),
	OFFSET("conf::NODE_NAME", slurmd_conf_t, node_name),
	OFFSET("conf::CONFFILE", slurmd_conf_t, conffile),
	OFFSET("conf::SPOOLDIR", slurmd_conf_t, spooldir),

	OFFSET("slurm_conf::DEBUG_FLAGS", slurm_conf_t, debug_flags),
	OFFSET("slurm_conf::SLURM_USER_ID", slurm_conf_t, slurm_user_id),
	NUMBER("slurm_conf::NAMESPACE", DEBUG_FLAG_NAMESPACE),
	NUMBER("slurm_conf::SCRIPT", DEBUG_FLAG_SCRIPT),

	OFFSET("StepId::sluid", slurm_step_id_t, sluid),
	OFFSET("StepId::job_id", slurm_step_id_t, job_id),
	OFFSET("StepId::step_het_comp", slurm_step_id_t, step_het_comp),
	OFFSET("StepId::step_id", slurm_step_id_t, step_id),
	NUMBER("size of StepId", sizeof(slurm_step_id_t)),

	OFFSET("NsFdMap::kind", ns_fd_map_t, type),
	OFFSET("NsFdMap::fd", ns_fd_map_t, fd),
	NUMBER("size of NsFdMap", sizeof(ns_fd_map_t)),

	OFFSET("gres_state::DATA", gres_state_t, gres_data),
	OFFSET("gres_state::NAME", gres_state_t, gres_name),
	OFFSET("gres_job::TYPE_NAME", gres_job_state_t, type_name),
	OFFSET("gres_job::total", gres_job_state_t, total_gres),
	OFFSET("gres_job::here", gres_job_state_t, gres_cnt_node_alloc),
	WIDTH("width of total_gres", gres_job_state_t, total_gres),

	NUMBER("NO_VAL", NO_VAL),
	NUMBER("SLURM_EXTERN_CONT", SLURM_EXTERN_CONT),
	NUMBER("SLURM_SUCCESS", SLURM_SUCCESS),
	NUMBER("SLURM_ERROR", (unsigned)SLURM_ERROR),

	PROTOTYPE(log_var, void (*)(const log_level_t, const char *, ...)),
	PROTOTYPE(fatal, void (*)(const char *, ...)),
	PROTOTYPE(list_append, void (*)(list_t *, void *)),
	PROTOTYPE(list_count, int (*)(list_t *)),
	PROTOTYPE(list_for_each, int (*)(list_t *, ListForF, void *)),
	PROTOTYPE(slurm_xcalloc, void *(*)(size_t, size_t, bool, bool, const char *, int, const char *)),
	PROTOTYPE(print_sluid, void (*)(const uint64_t, char *, size_t)),
	PROTOTYPE(proctrack_g_add, int (*)(stepd_step_rec_t *, pid_t)),
	PROTOTYPE(switch_g_fs_init, int (*)(stepd_step_rec_t *)),
	PROTOTYPE(cgroup_g_bpf_get_token, int (*)(void)),
	PROTOTYPE(cgroup_g_bpf_set_token, void (*)(int)),
	PROTOTYPE(stepd_connect, int (*)(const char *, const char *, slurm_step_id_t *, uint16_t *)),
	PROTOTYPE(stepd_get_bpf_token, int (*)(int, uint16_t)),

	/* The plugin's own functions have the types of these, with _p_ for _g_. */
	PROTOTYPE(namespace_g_restore, int (*)(char *, bool)),
	PROTOTYPE(namespace_g_send_stepd, int (*)(int)),
	PROTOTYPE(namespace_g_recv_stepd, int (*)(int)),
	PROTOTYPE(namespace_g_stepd_create, int (*)(stepd_step_rec_t *)),
	NUMBER("delete_gets_step", IS(namespace_g_stepd_delete, int (*)(stepd_step_rec_t *))),
	PROTOTYPE(namespace_g_join, int (*)(slurm_step_id_t *, uid_t, bool)),
	PROTOTYPE(namespace_g_join_external, int (*)(slurm_step_id_t *, list_t *)),
	PROTOTYPE(namespace_g_can_bpf, bool (*)(stepd_step_rec_t *)),
	PROTOTYPE(namespace_g_setup_bpf_token, int (*)(stepd_step_rec_t *)),

	NUMBER("", 0),
};
