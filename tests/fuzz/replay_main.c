/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over files, or over all files of folders, without libFuzzer: a regression test with any compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat status;
	if (!file || fstat(fileno(file), &status) < 0) {
		perror(path);
		return -1;
	}
	/* Exactly as large as the input, so that AddressSanitizer sees a read past its end. */
	size_t size = (size_t)status.st_size;
	uint8_t *data = malloc(size ? size : 1);
	size_t got = data ? fread(data, 1, size, file) : 0;
	fclose(file);
	if (got != size) {
		fprintf(stderr, "%s: cannot read\n", path);
		free(data);
		return -1;
	}
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

/* @return files replayed, or -1 */
static int replay(const char *path)
{
	DIR *folder = opendir(path);
	if (!folder)
		return replay_file(path);

	int total = 0;
	for (struct dirent *entry; total >= 0 && (entry = readdir(folder));) {
		char inner[4096];
		if (entry->d_name[0] == '.')
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		int count = replay_file(inner);
		total = count < 0 ? -1 : total + count;
	}
	closedir(folder);
	return total;
}

int main(int argc, char **argv)
{
	int total = 0;
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		int count = replay(argv[i]);
		if (count < 0)
			return 1;
		total += count;
	}
	printf("%d inputs\n", total);
	return total > 0 ? 0 : 1;
}
