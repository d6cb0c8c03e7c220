/* SPDX-License-Identifier: MIT */
/*
 * TLS for channels and listeners, by OpenSSL: version 1.3 only, and each side proves who it is, either by a certificate or by a key that
 * both have. Only the files tls_*.c and channel_tls.c know OpenSSL.
 */
#ifndef TLS_H
#define TLS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include <tenon-migration/channel.h>
#include <tenon/error.h>

#define TLS_IDENTITY_BYTES 129 /* of a pre-shared key, with its end */
#define TLS_KEY_BYTES_MIN  16
#define TLS_KEY_BYTES_MAX  64
#define TLS_WORDS_BYTES    256

/* What every connection of a channel or listener has in common. Unchanging once it is made. */
struct tls_context {
	atomic_uint users;
	SSL_CTX *openssl;
	BIO_METHOD *socket; /* how OpenSSL reads and writes: by our kernel calls */
	char *peer_name;    /* that the other side's certificate must have; NULL: any */
	char identity[TLS_IDENTITY_BYTES];
	uint8_t key[TLS_KEY_BYTES_MAX];
	size_t key_bytes; /* 0: certificates */
};

/* ---- tls_context.c ---- */

/** Whether the options ask for TLS. */
bool tls_wanted(const struct tenon_channel_options *options);

/** Reads keys and certificates. @param out  NULL where no TLS is wanted; to be released */
int tls_context_create(const char *name, const struct tenon_channel_options *options, struct tls_context **out,
		       struct tenon_error *err);
void tls_context_hold(struct tls_context *context);
void tls_context_release(struct tls_context *context); /* accepts NULL */

/* ---- tls_files.c ---- */

/** The certificates of a PEM file. At least one. */
int tls_read_certificates(const char *name, const char *path, struct stack_st_X509 **out, struct tenon_error *err);
int tls_read_private_key(const char *name, const char *path, EVP_PKEY **out, struct tenon_error *err);
/** One line, IDENTITY:HEXKEY, into the context. */
int tls_read_shared_key(const char *name, const char *path, struct tls_context *context, struct tenon_error *err);

/* ---- tls_words.c ---- */

/**
 * Says what went wrong in a connection, by what OpenSSL left behind in it and in this thread's queue of errors, which is emptied.
 *
 * @return -errno to go with it
 */
int tls_words(const SSL *ssl, const struct tls_context *context, char words[TLS_WORDS_BYTES]);

/* ---- channel_tls.c ---- */

/** How OpenSSL is to read and write. @return NULL: out of memory; else BIO_meth_free() */
BIO_METHOD *tls_socket_method(void);

/**
 * Makes a channel of a connected socket speak TLS from its first byte on. What connects shakes hands now; what was accepted does with
 * its first read or write, so that who connects and then says nothing keeps nobody from accepting the next.
 *
 * @param host  whom the connecting side wants to reach; a name or an address; NULL: only tls_peer_name counts
 */
int tls_channel_start(struct tenon_channel *channel, struct tls_context *context, bool connecting, const char *host,
		      struct tenon_error *err);

#endif
