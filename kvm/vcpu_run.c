// SPDX-License-Identifier: MIT
/*
 * The loop of a vCPU's thread: runs the guest, has exits answered, and between two instructions of the guest heeds what
 * the controlling thread wants.
 *
 * Why no wish is lost: whoever wants something sets `attention` and then immediate_exit (tenon_vcpu_kick). The loop clears
 * immediate_exit and then looks at `attention`. Whichever way the two interleave, either the loop sees the wish, or
 * immediate_exit stays set and KVM_RUN returns at once.
 */
#include <errno.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

/* Waits while the vCPU shall not run. @return false: the thread shall end */
static bool wait_for_leave(struct tenon_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	while ((vcpu->pause_wanted || vcpu->stopped_itself) && !vcpu->stop_wanted) {
		vcpu->running = false;
		pthread_cond_broadcast(&vcpu->changed);
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	}
	bool stop = vcpu->stop_wanted;
	vcpu->running = !stop;
	atomic_store(&vcpu->attention, false);
	if (stop) {
		/* Under the lock, so that a pause that waits for `running` finds no thread either. */
		atomic_store(&vcpu->thread_id, 0);
		pthread_cond_broadcast(&vcpu->changed);
	}
	pthread_mutex_unlock(&vcpu->lock);
	return !stop;
}

static void stop_itself(struct tenon_vcpu *vcpu, enum tenon_vcpu_stop why, int result)
{
	char text[400];
	if (why == TENON_VCPU_STOP_FAILED)
		vcpu_describe_failure(vcpu, result, text, sizeof(text));

	pthread_mutex_lock(&vcpu->lock);
	vcpu->stopped_itself = true;
	atomic_store(&vcpu->attention, true);
	pthread_mutex_unlock(&vcpu->lock);
	if (vcpu->handlers.stopped)
		vcpu->handlers.stopped(vcpu->context, vcpu->index, why, why == TENON_VCPU_STOP_FAILED ? text : NULL);
}

/*
 * KVM_RUN would only say again that the ring is full, so the thread sleeps. The ring may have been emptied since, also between
 * the exit and here: `collections` is the count from before the exit.
 */
static void wait_for_collection(struct tenon_vcpu *vcpu, unsigned collections)
{
	if (vcpu->handlers.dirty_ring_full)
		vcpu->handlers.dirty_ring_full(vcpu->context, vcpu->index);

	pthread_mutex_lock(&vcpu->lock);
	while (atomic_load(&vcpu->ring_collections) == collections && !atomic_load(&vcpu->attention))
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	pthread_mutex_unlock(&vcpu->lock);
}

/* One stay in the guest. @return whether an instruction of the guest is half done */
static bool run_once(struct tenon_vcpu *vcpu)
{
	unsigned collections = atomic_load_explicit(&vcpu->ring_collections, memory_order_relaxed);
	int result = kcall_ioctl_value(vcpu->fd, KVM_RUN, 0);
	if (result == -EINTR) {
		vcpu_count(&vcpu->counters.kicks);
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		return false;
	}
	if (result == -EAGAIN) /* woken while it waits for its first INIT or SIPI */
		return false;

	enum tenon_vcpu_stop why = TENON_VCPU_STOP_FAILED;
	switch (result < 0 ? VCPU_NEXT_STOP : vcpu_answer_exit(vcpu, &why)) {
	case VCPU_NEXT_COMPLETE:
		return true;
	case VCPU_NEXT_RING:
		wait_for_collection(vcpu, collections);
		return false;
	case VCPU_NEXT_STOP:
		stop_itself(vcpu, why, result);
		return false;
	case VCPU_NEXT_RUN:
		break;
	}
	return false;
}

void *vcpu_run_thread(void *argument)
{
	struct tenon_vcpu *vcpu = argument;
	bool half_done = false;

	atomic_store(&vcpu->thread_id, kcall_thread_id());
	for (;;) {
		if (atomic_load(&vcpu->attention)) {
			if (half_done) /* KVM finishes the instruction, and returns before the next */
				__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
			else if (!wait_for_leave(vcpu))
				return NULL;
		}
		half_done = run_once(vcpu);
	}
}
