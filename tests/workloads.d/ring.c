/* Each rank passes 4 MB on to the next, which is shared memory or process_vm_readv on one node. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	enum { COUNT = 1 << 20 };
	int rank, ranks, sum = 0;
	int *sent = malloc(COUNT * sizeof(int)), *received = malloc(COUNT * sizeof(int));

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	for (int i = 0; i < COUNT; i++)
		sent[i] = rank;
	for (int round = 0; round < 10; round++)
		MPI_Sendrecv(sent, COUNT, MPI_INT, (rank + 1) % ranks, 0, received, COUNT, MPI_INT,
			     (rank + ranks - 1) % ranks, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	for (int i = 0; i < COUNT; i++)
		if (received[i] != (rank + ranks - 1) % ranks)
			MPI_Abort(MPI_COMM_WORLD, 1);
	MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	if (rank == 0)
		printf("ring of %d: %d\n", ranks, sum);
	MPI_Finalize();
	return 0;
}
