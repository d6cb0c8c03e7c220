/* SPDX-License-Identifier: MIT */
/* Small helpers for words in buffers of fixed size: what does not fit is cut. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

void text_add(char *buffer, size_t capacity, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** Whether `word` is one of the blank-separated words of `list`. */
bool text_has_word(const char *list, const char *word);
/** 16K, 64M, 2G: in the largest unit that divides it. */
void text_size(char *buffer, size_t capacity, unsigned long long size_bytes);
/** The ending of a noun after its count: 1 VF, 2 VFs. */
const char *text_plural(unsigned long long count);

#endif
