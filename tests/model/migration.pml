/* SPDX-License-Identifier: MIT */
/*
 * A migration of three devices: the conductor of both sides, the protocol that decides who runs, and the two guardians. spin explores every
 * order of events, with a cut of the connection, lost questions and answers, a person's cancel, devices that fail at any step, and
 * processes that are killed between any two steps. tests/model/check runs it.
 *
 * Nothing of the protocol is written here: commit.def is the automata, migration_states.def the devices' states. What is modelled around
 * them: a side says its next phase to its guardian, and acts in a step of its own. The conductor moves each device one arc at a time, in any
 * order within a step, and waits for all of them at its end.
 *
 * -DCRASHES=n      processes that may be killed
 * -DERRORS=n       device transitions that may fail
 * -DFAULTS=n       both together
 * -DNEVER_TWO, -DNEVER_NONE, -DDEVICES   the properties, below
 * -DBROKEN=n       a mistake that a property has to find:
 *     1 the source resumes when the connection is lost after COMMIT     2 the destination runs when the connection is lost
 *     3 the source resumes first and says so after that                 4 devices stop in one step
 *     5 a guardian says of a destination that ran that it never will    6 END is sent first and said after that
 *     7 devices start in one step                                       8 a device takes an arc that is none
 *     9 the destination's vCPUs run first and its guardian knows after that
 */
#define N 3 /* devices */
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef ERRORS
#define ERRORS 1
#endif
#ifndef FAULTS
#define FAULTS (CRASHES + ERRORS)
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

/* ---- Data ---- */

#define DEF_COMMIT "../../migration/commit.def"
#define DEF_STATES "../../passthrough/migration_states.def"

mtype = {
#define DUTY(name) DUTY_##name,
#include DEF_COMMIT
#define SOURCE_PHASE(name, alive, dead) SP_##name,
#include DEF_COMMIT
#define SOURCE_EVENT(name) SE_##name,
#include DEF_COMMIT
#define SOURCE_ACTION(name) SA_##name,
#include DEF_COMMIT
#define DESTINATION_PHASE(name, alive, dead) DP_##name,
#include DEF_COMMIT
#define DESTINATION_EVENT(name) DE_##name,
#include DEF_COMMIT
#define DESTINATION_ACTION(name) DA_##name,
#include DEF_COMMIT
	NOTHING, END
};

/* A device's abilities, as ARC(from, to, needs) names them. */
#define P2P 1
#define PRE 2
#define NOP2P 4

/* The states' numbers, and who may do what in which, as sets of them. */
#define ARC(from, to, needs)
#define STATE(name, number, usable, dma, answers, saves, loads) hidden byte ST_##name = number;
#include DEF_STATES
#undef STATE
hidden int usable_states = 0
#define STATE(name, number, usable, dma, answers, saves, loads) | (usable << number)
#include DEF_STATES
#undef STATE
	;
hidden int dma_states = 0
#define STATE(name, number, usable, dma, answers, saves, loads) | (dma << number)
#include DEF_STATES
#undef STATE
	;
hidden int answering_states = 0
#define STATE(name, number, usable, dma, answers, saves, loads) | (answers << number)
#include DEF_STATES
#undef STATE
	;
hidden int saving_states = 0
#define STATE(name, number, usable, dma, answers, saves, loads) | (saves << number)
#include DEF_STATES
#undef STATE
	;
hidden int loading_states = 0
#define STATE(name, number, usable, dma, answers, saves, loads) | (loads << number)
#include DEF_STATES
#undef STATE
#undef ARC
	;
#define IN(states, state) ((states >> (state)) & 1)

/* ---- What exists ---- */

byte has[N]; /* abilities; the same at both sides */

/* Of the source, then of the destination. */
#define S 0
#define D 1
byte device[2 * N];
bit armed[2 * N]; /* the guest's driver has set it up: it does DMA where its state lets it */
bit vcpus[2];
#define DEV(side, i) device[(side) * N + (i)]
#define ARMED(side, i) armed[(side) * N + (i)]

bit s_dead, d_dead;
/* Where devices are what is asked about, there are neither guardians nor a person, and no question is lost: no device sees them. */
#ifdef DEVICES
#define QUIET 1
#else
#define QUIET 0
#endif
bit s_guardian_gone = QUIET, d_guardian_gone = QUIET;
mtype s_phase = SP_MOVING, d_phase = DP_LOADING;
mtype s_word = SP_MOVING, d_word = DP_LOADING; /* what the guardians know */

/* The connection. Once it is not open any more, what was sent may arrive or not. */
bit open = 1;
chan to_destination = [3] of { mtype };
chan to_source = [3] of { mtype };

/* Questions at the destination's listener: of the source, and of its guardian. */
#define BY_SOURCE 0
#define BY_GUARDIAN 1
mtype question[2] = NOTHING; /* DE_VERDICT_*: asked */
mtype answer[2] = NOTHING;   /* SE_ANSWER_* */
bit d_listens = 1;           /* the destination has not closed it; its guardian has one of its own */
#define SOMEBODY_LISTENS ((d_listens && !d_dead) || !d_guardian_gone)

/* What has happened once. */
byte crashes, errors;
bit cut, cancelled = QUIET, lost_question = QUIET;
bit s_resumed, d_ran;

/* ---- Properties ---- */

#define S_RUNS (vcpus[S] && !s_dead)
#define D_RUNS (vcpus[D] && !d_dead)

/*
 * NEVER_TWO: neither two run at once, nor one whose other copy has run since: the source does not run once the destination has, nor the
 * destination once the source was resumed, even if the other is dead by now.
 */
#ifdef NEVER_TWO
#define CHECK_RUN assert(!(S_RUNS && D_RUNS) && !(d_ran && vcpus[S]) && !(s_resumed && d_ran))
#else
#define CHECK_RUN skip
#endif

/*
 * NEVER_NONE: when nothing moves any more, one side runs; or it died with the only whole copy: the source before the destination was
 * prepared or after it had resumed, the destination once it ran. That needs a network that works in the end, guardians, and one fault.
 * With any number of them: nobody gives a copy away that the other side does not have or has no right to run.
 */
#if defined(NEVER_NONE) || defined(NEVER_TWO)
#define CHECK_GIVEN_UP(side_has_it) assert(side_has_it)
#else
#define CHECK_GIVEN_UP(side_has_it) skip
#endif
bit d_prepared;
#define DIED_WITH_IT                                                                                                   \
	((s_dead && (!d_prepared || s_word == SP_RESUMED)) || (d_dead && (d_word == DP_RUNNING || d_word == DP_RESOLVED)))
#define SETTLED ((S_RUNS && !D_RUNS) || (D_RUNS && !S_RUNS) || (!S_RUNS && !D_RUNS && DIED_WITH_IT))

/*
 * DEVICES: only arcs of the table; no device that can do DMA has a peer that does not answer; vCPUs run only with devices that they can
 * use; data is read and written only in the states for it.
 */
#ifdef DEVICES
#define CHECK(what) assert(what)
#else
#define CHECK(what) skip
#endif
#define REACHES(side, i, j)                                                                                            \
	(ARMED(side, i) && IN(dma_states, DEV(side, i)) && !IN(answering_states, DEV(side, j)) && DEV(side, j) != ST_ERROR)
#define BUS_IS_RIGHT(side)                                                                                             \
	!(REACHES(side, 0, 1) || REACHES(side, 0, 2) || REACHES(side, 1, 0) || REACHES(side, 1, 2) ||                     \
	  REACHES(side, 2, 0) || REACHES(side, 2, 1))
#define USABLE(side, i) (IN(usable_states, DEV(side, i)) || DEV(side, i) == ST_ERROR)
#define ALL_USABLE(side) (USABLE(side, 0) && USABLE(side, 1) && USABLE(side, 2))

/* ---- Devices ---- */

#ifdef DEVICES
/*
 * For abilities, a state and a goal: the set of states that are one arc nearer to the goal. Computed once, before anything happens.
 */
hidden byte nearer_states[8 * 64];
#define NEARER(abilities, state, goal) nearer_states[(abilities) * 64 + (state) * 8 + (goal)]
hidden byte abilities, from_state, to_state, near, grown;

/* Adds every state from which one arc leads into what is near. */
#define STATE(...)
#define ARC(from, to, needs)                                                                                           \
	if                                                                                                             \
	:: (needs & abilities) == needs && IN(near, ST_##to) -> grown = grown | (1 << ST_##from)                      \
	:: else                                                                                                        \
	fi;
inline grow()
{
	grown = near;
#include DEF_STATES
}
#undef ARC

inline find_ways()
{
	abilities = 0;
	do
	:: abilities < 8 ->
		from_state = 0;
		do
		:: from_state < 8 ->
			to_state = 0;
			do
			:: to_state < 8 ->
				near = 1 << to_state;
				grow();
				do
				:: !IN(grown, from_state) && grown != near -> near = grown; grow()
				:: else -> break
				od;
				NEARER(abilities, from_state, to_state) = (IN(grown, from_state) -> near : 0);
				to_state++
			:: else -> break
			od;
			from_state++
		:: else -> break
		od;
		abilities++
	:: else -> break
	od
}

/* Device i of a side goes one arc on a shortest way to `goal`, any where there are several; or it fails, as it was or in ERROR. */
inline go(side, error)
{
	if
#define ARC(from, to, needs) :: DEV(side, i) == ST_##from && (needs & has[i]) == needs && IN(NEARER(has[i], ST_##from, goal), ST_##to) -> state = ST_##to
#include DEF_STATES
#undef ARC
	:: errors < ERRORS && crashes + errors < FAULTS -> errors++; event = error
	:: errors < ERRORS && crashes + errors < FAULTS -> errors++; event = error; state = ST_ERROR
#if BROKEN == 8
	:: DEV(side, i) == ST_RUNNING && goal == ST_RUNNING_P2P -> state = ST_STOP_COPY
#endif
	fi;
	d_step {
		assert(state == DEV(side, i) || state == ST_ERROR
#define ARC(from, to, needs) || (DEV(side, i) == ST_##from && state == ST_##to && (needs & has[i]) == needs)
#include DEF_STATES
#undef ARC
		);
		DEV(side, i) = state;
		state = 0;
		CHECK(BUS_IS_RIGHT(side));
		CHECK(!vcpus[side] || ALL_USABLE(side))
	}
}
#undef STATE
#endif

/*
 * The conductor's steps. In each, every device has a goal, or keeps the state that it has; the next begins when all are there. The middle
 * ones exist for the one device that may lack P2P: it stops while no other does DMA, and starts while all others answer.
 */
mtype = {
	/* source */
	J_PRE_COPY, J_STOP_VCPUS, J_STOP_P2P, J_STOP_OTHER, J_STOP_ALL, J_ALL_SENT,
	/* destination */
	J_WAIT, J_LOAD, J_LOADED,
	/* both; RESET is the source's, after a failure */
	J_RESET, J_START_P2P, J_START_OTHER, J_START_ALL, J_START_VCPUS,
	J_OVER
};
mtype s_job = J_PRE_COPY, d_job = J_WAIT;

#define IS(side, i, a, b) (DEV(side, i) == ST_##a || DEV(side, i) == ST_##b)
inline set_goal(side, job)
{
	if
	:: job == J_PRE_COPY && (has[i] & PRE) -> goal = ST_PRE_COPY
	:: job == J_STOP_P2P && BROKEN != 4 && (has[i] & P2P) && IS(side, i, PRE_COPY, PRE_COPY_P2P) -> goal = ST_PRE_COPY_P2P
	:: job == J_STOP_P2P && BROKEN != 4 && (has[i] & P2P) && !IS(side, i, PRE_COPY, PRE_COPY_P2P) -> goal = ST_RUNNING_P2P
	:: job == J_STOP_OTHER && BROKEN != 4 && (has[i] & NOP2P) -> goal = ST_STOP_COPY
	:: job == J_STOP_ALL -> goal = ST_STOP_COPY
	:: job == J_LOAD -> goal = ST_RESUMING
	:: job == J_LOADED -> goal = ST_STOP
	:: job == J_START_P2P && BROKEN != 7 && (has[i] & P2P) && IS(side, i, STOP, STOP_COPY) -> goal = ST_RUNNING_P2P
	:: job == J_START_OTHER && BROKEN != 7 && (has[i] & NOP2P) -> goal = ST_RUNNING
	:: job == J_START_ALL -> goal = ST_RUNNING
	:: else -> goal = DEV(side, i)
	fi
}

#ifndef DEVICES
/* Where devices are not what is asked about, a step is done or fails as a whole. */
#define go_to_goals(side, job, error)                                                                                  \
	if                                                                                                             \
	:: i = N                                                                                                       \
	:: errors < ERRORS && crashes + errors < FAULTS -> errors++; event = error                                       \
	fi
#else
#define ANY_ORDER(job) (job != J_PRE_COPY && job != J_LOAD && job != J_LOADED)

/* One arc of one device that is not at its goal, any of them where the order may matter; i = N: all are there. */
inline go_to_goals(side, job, error)
{
	d_step {
		i = 0;
		do
		:: i < N ->
			set_goal(side, job);
			if
			:: goal != DEV(side, i) -> todo = todo | (1 << i)
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0
	}
	if
	:: IN(todo, 0) -> i = 0
	:: IN(todo, 1) && (IN(todo, 0) -> ANY_ORDER(job) : 1) -> i = 1
	:: IN(todo, 2) && ((todo & 3) -> ANY_ORDER(job) : 1) -> i = 2
	:: todo == 0 -> i = N
	fi;
	if
	:: i < N && DEV(side, i) == ST_ERROR ->
		DEV(side, i) = ST_RUNNING; /* reset by ioctl; its driver has not set it up since */
		ARMED(side, i) = 0
	:: i < N && DEV(side, i) != ST_ERROR ->
		set_goal(side, job);
		go(side, error)
	:: else
	fi
}
#endif

/* Goes on with a step, and to the next one where it is done. */
inline work(side, job, error)
{
	go_to_goals(side, job, error);
	d_step {
		if
		:: i < N -> skip
		:: i == N && job == J_PRE_COPY -> job = J_STOP_VCPUS
		:: i == N && job == J_STOP_VCPUS -> vcpus[side] = 0; job = J_STOP_P2P
		:: i == N && job == J_STOP_P2P -> job = J_STOP_OTHER
		:: i == N && job == J_STOP_OTHER -> job = J_STOP_ALL
		:: i == N && job == J_STOP_ALL ->
			CHECK(IN(saving_states, DEV(side, 0)) && IN(saving_states, DEV(side, 1)) && IN(saving_states, DEV(side, 2)));
			job = J_ALL_SENT
		:: i == N && job == J_LOAD ->
			CHECK(IN(loading_states, DEV(side, 0)) && IN(loading_states, DEV(side, 1)) && IN(loading_states, DEV(side, 2)));
			ARMED(side, 0) = 1;
			ARMED(side, 1) = 1;
			ARMED(side, 2) = 1;
			job = J_LOADED
		:: i == N && job == J_LOADED -> event = DE_LOADED; job = J_WAIT
		:: i == N && job == J_RESET -> job = J_START_P2P
		:: i == N && job == J_START_P2P -> job = J_START_OTHER
		:: i == N && job == J_START_OTHER -> job = J_START_ALL
		:: i == N && job == J_START_ALL -> job = J_START_VCPUS
		:: else
		fi;
		i = 0;
		goal = 0;
		todo = 0
	}
}
#ifdef DEVICES
#define SCRATCH byte i, goal, state, todo
#else
#define SCRATCH byte i, goal, todo
#endif

/* ---- The source ---- */

bit s_connected = 1;

inline s_close()
{
	s_connected = 0;
	open = 0;
	do
	:: to_source ? _
	:: empty(to_source) -> break
	od
}

inline s_send(message)
{
	if
	:: open && s_connected -> to_destination ! message
	:: else
	fi
}

inline s_act()
{
	if
	:: action == SA_SEND_END -> s_send(END)
	:: action == SA_SEND_COMMIT -> s_send(DE_COMMIT)
	:: action == SA_SEND_DONE ->
		CHECK_GIVEN_UP(d_ran || d_word == DP_RUNNING);
		s_send(DE_DONE);
		question[BY_SOURCE] = (s_connected -> NOTHING : DE_VERDICT_FINISHED);
		s_close()
	:: action == SA_ABORT || action == SA_RESUME ->
		if
		:: action == SA_ABORT -> s_send(DE_ABORT)
		:: else -> question[BY_SOURCE] = (s_connected -> NOTHING : DE_VERDICT_FINISHED)
		fi;
		s_close();
		s_resumed = 1;
		CHECK_RUN;
		s_job = J_RESET
	:: action == SA_ASK -> s_close()
	:: else
	fi
}

proctype source() provided (!s_dead)
{
	SCRATCH;
	mtype event = NOTHING, next = NOTHING, action = NOTHING;
	do
	:: atomic {
		event == NOTHING && s_phase == SP_MOVING && s_job != J_ALL_SENT ->
		work(S, s_job, SE_ERROR)
	}
	:: atomic {
		event == NOTHING && s_phase == SP_MOVING && s_job == J_ALL_SENT ->
		event = SE_ALL_SENT;
		s_job = J_OVER
	}
	:: atomic {
		event == NOTHING && s_phase == SP_RESUMED && s_job != J_START_VCPUS && s_job != J_OVER ->
		work(S, s_job, NOTHING)
	}
	:: atomic {
		event == NOTHING && s_phase == SP_RESUMED && s_job == J_START_VCPUS ->
		CHECK(ALL_USABLE(S));
		vcpus[S] = 1;
		CHECK_RUN;
		s_job = J_OVER
	}
	:: atomic { event == NOTHING && s_connected && nempty(to_source) -> to_source ? event }
	:: atomic { event == NOTHING && s_connected && !open -> s_close(); event = SE_LOST }
	:: atomic {
		event == NOTHING && !cancelled && s_phase != SP_MOVED && s_phase != SP_RESUMED ->
		cancelled = 1;
		event = SE_CANCEL
	}
	:: atomic {
		event == NOTHING && s_phase == SP_RESOLVING && question[BY_SOURCE] == NOTHING && answer[BY_SOURCE] == NOTHING &&
		SOMEBODY_LISTENS ->
		question[BY_SOURCE] = DE_VERDICT_COMMITTED
	}
	:: atomic {
		event == NOTHING && s_phase == SP_RESOLVING && answer[BY_SOURCE] != NOTHING ->
		event = answer[BY_SOURCE];
		answer[BY_SOURCE] = NOTHING
	}
	:: event != NOTHING ->
		d_step {
			next = s_phase;
			action = SA_STAY;
			if
#define SOURCE(phase, what, then, does)                                                                                \
	:: s_phase == SP_##phase && event == SE_##what -> next = SP_##then; action = SA_##does
#include DEF_COMMIT
			:: else
			fi;
#if BROKEN == 1
			if
			:: s_phase == SP_COMMITTED && event == SE_LOST -> next = SP_RESUMED; action = SA_RESUME
			:: else
			fi;
#endif
		}
#if BROKEN == 3
		if
		:: next == SP_RESUMED -> atomic { s_act() }; s_word = next
		:: else -> s_word = next; atomic { s_act() }
		fi;
#elif BROKEN == 6
		if
		:: next == SP_SENT -> atomic { s_act() }; s_word = next
		:: else -> s_word = next; atomic { s_act() }
		fi;
#else
		s_word = next;
		atomic { s_act() };
#endif
		d_step {
			s_phase = next;
			next = NOTHING;
			action = NOTHING;
			event = NOTHING
		}
	od
}

/* ---- The destination ---- */

bit d_connected = 1;

inline d_close()
{
	d_connected = 0;
	open = 0;
	do
	:: to_destination ? _
	:: empty(to_destination) -> break
	od
}

inline d_send(message)
{
	if
	:: open && d_connected -> to_source ! message
	:: else
	fi
}

inline d_act()
{
	if
	:: action == DA_SEND_READY -> d_prepared = 1; d_send(SE_READY)
	:: action == DA_START -> d_job = J_START_P2P
	:: action == DA_RUN ->
		CHECK(ALL_USABLE(D));
		vcpus[D] = 1;
		d_ran = 1;
		CHECK_RUN
	:: action == DA_SEND_FAILED ->
		CHECK_GIVEN_UP(d_phase == DP_LOADING || errors > 0);
		d_send(SE_FAILED);
		d_close();
		d_listens = 0
	:: action == DA_ANSWER_RUNS -> answer[who] = SE_ANSWER_RUNS; question[who] = NOTHING
	:: action == DA_ANSWER_GONE ->
		CHECK_GIVEN_UP(d_phase != DP_PREPARED || s_word == SP_RESUMED);
		answer[who] = SE_ANSWER_GONE;
		question[who] = NOTHING;
		d_close();
		d_listens = 0
	:: action == DA_CLOSE ->
		question[who] = (event == DE_VERDICT_FINISHED -> NOTHING : question[who]);
		d_close();
		d_listens = 0
	:: action == DA_LEAVE ->
		CHECK_GIVEN_UP(d_phase != DP_PREPARED || s_word == SP_RESUMED);
		d_close();
		d_listens = 0
	:: else
	fi
}

proctype destination() provided (!d_dead)
{
	SCRATCH;
	byte who;
	mtype event = NOTHING, next = NOTHING, action = NOTHING;
	do
	:: atomic {
		event == NOTHING && d_phase == DP_LOADING && (d_job == J_LOAD || d_job == J_LOADED) ->
		work(D, d_job, DE_ERROR)
	}
	:: atomic {
		event == NOTHING && d_phase == DP_STARTING ->
		if
		:: d_job == J_START_VCPUS -> event = DE_STARTED; d_job = J_OVER
		:: d_job != J_START_VCPUS && d_job != J_OVER -> work(D, d_job, DE_ERROR)
		fi
	}
	:: atomic {
		event == NOTHING && d_phase == DP_RUNNING && d_job == J_OVER -> /* after the vCPUs: a death may come in between */
		d_send(SE_STARTED);
		d_job = J_WAIT
	}
	:: atomic {
		event == NOTHING && d_connected && nempty(to_destination) ->
		to_destination ? event;
		if
		:: event == END -> event = NOTHING; d_job = J_LOAD
		:: else
		fi
	}
	:: atomic { event == NOTHING && d_connected && !open -> d_close(); event = DE_LOST }
	:: atomic {
		event == NOTHING && !cancelled && (d_phase == DP_LOADING || d_phase == DP_PREPARED || d_phase == DP_STARTING) ->
		cancelled = 1;
		event = DE_CANCEL
	}
	:: atomic { /* a question that the table has no line for waits in the queue, or comes again */
		event == NOTHING && d_listens && (0
#define DESTINATION(phase, what, then, does) || (d_phase == DP_##phase && question[BY_SOURCE] == DE_##what)
#include DEF_COMMIT
		) ->
		who = BY_SOURCE;
		event = question[BY_SOURCE]
	}
	:: atomic { /* a question that the table has no line for waits in the queue, or comes again */
		event == NOTHING && d_listens && (0
#define DESTINATION(phase, what, then, does) || (d_phase == DP_##phase && question[BY_GUARDIAN] == DE_##what)
#include DEF_COMMIT
		) ->
		who = BY_GUARDIAN;
		event = question[BY_GUARDIAN]
	}
	:: event != NOTHING ->
		d_step {
			next = d_phase;
			action = DA_STAY;
			if
#define DESTINATION(phase, what, then, does)                                                                           \
	:: d_phase == DP_##phase && event == DE_##what -> next = DP_##then; action = DA_##does
#include DEF_COMMIT
			:: else
			fi;
#if BROKEN == 2
			if
			:: d_phase == DP_PREPARED && event == DE_LOST -> next = DP_STARTING; action = DA_START
			:: else
			fi;
#endif
		}
#if BROKEN == 9
		if
		:: next == DP_RUNNING -> atomic { d_act() }; d_word = next
		:: else -> d_word = next; atomic { d_act() }
		fi;
#else
		d_word = next;
		atomic { d_act() };
#endif
		d_step {
			d_phase = next;
			next = NOTHING;
			action = NOTHING;
			event = NOTHING;
			who = 0
		}
	od
}

/* ---- The guardians ---- */

proctype source_guardian() provided (!s_guardian_gone)
{
	mtype duty = DUTY_WATCH;
	do
	:: atomic {
		(0
#define SOURCE_PHASE(name, alive, dead)                                                                                \
	|| (s_word == SP_##name && (s_dead -> DUTY_##dead : DUTY_##alive) != duty)
#include DEF_COMMIT
		) ->
		if
#define SOURCE_PHASE(name, alive, dead) :: s_word == SP_##name -> duty = (s_dead -> DUTY_##dead : DUTY_##alive)
#include DEF_COMMIT
		fi
	}
	:: atomic {
		(duty == DUTY_TELL_COMMITTED || duty == DUTY_TELL_ABORTED) && question[BY_GUARDIAN] == NOTHING &&
		answer[BY_GUARDIAN] == NOTHING && SOMEBODY_LISTENS ->
		question[BY_GUARDIAN] = (duty == DUTY_TELL_COMMITTED -> DE_VERDICT_COMMITTED : DE_VERDICT_ABORTED)
	}
	:: atomic {
		answer[BY_GUARDIAN] != NOTHING ->
		answer[BY_GUARDIAN] = NOTHING;
		question[BY_GUARDIAN] = DE_VERDICT_FINISHED;
		break
	}
	:: atomic { duty == DUTY_LEAVE -> break }
	:: atomic { duty == DUTY_TELL_ABORTED && answer[BY_GUARDIAN] == NOTHING && !SOMEBODY_LISTENS -> break }
	od;
	s_guardian_gone = 1
}

proctype destination_guardian() provided (!d_guardian_gone)
{
	mtype duty = DUTY_WATCH;
	byte who;
	do
	:: atomic {
		(0
#define DESTINATION_PHASE(name, alive, dead)                                                                           \
	|| (d_word == DP_##name && (d_dead -> DUTY_##dead : DUTY_##alive) != duty)
#include DEF_COMMIT
		) ->
		if
#define DESTINATION_PHASE(name, alive, dead) :: d_word == DP_##name -> duty = (d_dead -> DUTY_##dead : DUTY_##alive)
#include DEF_COMMIT
		fi;
#if BROKEN == 5
		duty = (duty == DUTY_ANSWER_ENDED -> DUTY_ANSWER_GONE : duty)
#endif
	}
	:: atomic {
		(duty == DUTY_ANSWER_GONE || duty == DUTY_ANSWER_ENDED) &&
		(question[BY_SOURCE] != NOTHING || question[BY_GUARDIAN] != NOTHING) ->
		if
		:: question[BY_SOURCE] != NOTHING -> who = BY_SOURCE
		:: question[BY_GUARDIAN] != NOTHING -> who = BY_GUARDIAN
		fi;
		if
		:: question[who] == DE_VERDICT_FINISHED -> question[who] = NOTHING; who = 0; break
		:: question[who] == DE_VERDICT_ABORTED -> question[who] = NOTHING; answer[who] = SE_ANSWER_GONE; who = 0; break
		:: question[who] == DE_VERDICT_COMMITTED ->
			question[who] = NOTHING;
			answer[who] = (duty == DUTY_ANSWER_GONE -> SE_ANSWER_GONE : SE_ANSWER_ENDED);
			who = 0
		fi
	}
	:: atomic { duty == DUTY_LEAVE -> break }
	od;
	d_guardian_gone = 1
}

/* ---- What else happens ---- */

#define MAY_CRASH (crashes < CRASHES && crashes + errors < FAULTS)

proctype misfortune()
{
	do
	:: atomic { MAY_CRASH && !s_dead -> s_dead = 1; open = 0; crashes++ }
	:: atomic { MAY_CRASH && !d_dead -> d_dead = 1; open = 0; crashes++ }
	:: atomic { MAY_CRASH && !s_guardian_gone -> s_guardian_gone = 1; crashes++ }
	:: atomic { MAY_CRASH && !d_guardian_gone -> d_guardian_gone = 1; crashes++ }
	:: atomic { !cut && open -> cut = 1; open = 0 }
	:: atomic { !lost_question && question[BY_SOURCE] != NOTHING -> lost_question = 1; question[BY_SOURCE] = NOTHING }
	:: atomic { !lost_question && answer[BY_SOURCE] != NOTHING -> lost_question = 1; answer[BY_SOURCE] = NOTHING }
	:: atomic { !lost_question && question[BY_GUARDIAN] != NOTHING -> lost_question = 1; question[BY_GUARDIAN] = NOTHING }
	:: atomic { !lost_question && answer[BY_GUARDIAN] != NOTHING -> lost_question = 1; answer[BY_GUARDIAN] = NOTHING }
	od
}

/* Nothing can move any more. */
proctype settled()
{
	timeout;
#ifdef NEVER_NONE
	assert(SETTLED)
#endif
}

init
{
	atomic {
#ifdef DEVICES
		d_step { find_ways() }
		/* Any mix of abilities, one of each that differ only in order; two devices without P2P are refused before anything starts. */
		if
		:: has[0] = P2P
		:: has[0] = P2P | PRE
		:: has[0] = NOP2P
		:: has[0] = NOP2P | PRE
		fi;
		if
		:: has[1] = P2P
		:: has[1] = P2P | PRE
		fi;
		if
		:: has[2] = P2P
		:: has[1] == (P2P | PRE) -> has[2] = P2P | PRE
		fi;
#endif
		DEV(S, 0) = ST_RUNNING;
		DEV(S, 1) = ST_RUNNING;
		DEV(S, 2) = ST_RUNNING;
		DEV(D, 0) = ST_RUNNING;
		DEV(D, 1) = ST_RUNNING;
		DEV(D, 2) = ST_RUNNING;
		vcpus[S] = 1;
		ARMED(S, 0) = 1;
		ARMED(S, 1) = 1;
		ARMED(S, 2) = 1;
		run source();
		run destination();
#ifndef DEVICES
		run source_guardian();
		run destination_guardian();
#endif
		run misfortune();
		run settled()
	}
}
