/* SPDX-License-Identifier: MIT */
/*
 * Feeds the control socket's parser a line. Whatever it holds, it is a request that is complete, or refused in one plain line.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void check_message(const struct tenon_error *error)
{
	require(error->code < 0 && error->message[0], "a refusal has a reason");
	for (const char *at = error->message; *at; at++)
		require((unsigned char)*at >= 0x20 && *at != 0x7f, "the reason is one line of plain text");
}

static void check_request(const struct control_request *request)
{
	bool adds = request->command == CONTROL_DEVICE_ADD, removes = request->command == CONTROL_DEVICE_REMOVE;
	require(request->command < CONTROL_COMMANDS, "the command is known");
	require((adds || removes) == (request->device.address != NULL), "a device where one is needed, and only there");
	bool migrates = request->command == CONTROL_MIGRATE;
	require(migrates == (request->migrate.address != NULL), "an address where one is needed, and only there");
	require(request->migrate.connections <= CONTROL_CONNECTIONS_MAX, "the connections are in their range");
	require(request->migrate.rounds <= CONTROL_ROUNDS_MAX, "the rounds are in their range");
	require(migrates || !request->migrate.tls.ca, "TLS is of migrations");
	require(!request->migrate.tls.ca == !request->migrate.tls.key, "what belongs together comes together");
	require(removes || (!request->force && !request->timeout_seconds), "force and timeout belong to a removal");
	require(request->timeout_seconds <= CONTROL_TIMEOUT_MAX, "the timeout is in its range");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request request;
	struct tenon_error error = {0};
	/* A copy without a zero byte after it, so that reading on is found. */
	char *line = malloc(size ? size : 1);
	require(line, "memory");
	memcpy(line, data, size);
	if (control_request_parse(line, size, &request, &error) < 0) {
		check_message(&error);
	} else {
		check_request(&request);
		control_request_finish(&request);
	}
	free(line);
	return 0;
}
