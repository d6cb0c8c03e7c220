// SPDX-License-Identifier: MIT
/* Certificates and keys, read from files: PEM for certificates, one line IDENTITY:HEXKEY for a pre-shared key. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "kernel_calls.h"
#include "tls.h"

#define FILE_BYTES_MAX (256u << 10)

struct file_text {
	char *text; /* with a zero at its end */
	size_t bytes;
};

/* It may have been a key. */
static void forget(struct file_text *file)
{
	OPENSSL_clear_free(file->text, FILE_BYTES_MAX + 1);
	file->text = NULL;
}

static int read_all(int fd, struct file_text *out)
{
	while (out->bytes <= FILE_BYTES_MAX) {
		ssize_t got = mcall_read(fd, out->text + out->bytes, FILE_BYTES_MAX + 1 - out->bytes);
		if (got == 0)
			return 0;
		if (got < 0 && got != -EINTR)
			return (int)got;
		if (got > 0)
			out->bytes += (size_t)got;
	}
	return -EFBIG;
}

/* @param secret  others must not be able to read it */
static int read_file(const char *name, const char *path, bool secret, struct file_text *out, struct tenon_error *err)
{
	struct stat status;
	*out = (struct file_text){.text = OPENSSL_zalloc(FILE_BYTES_MAX + 2)};
	if (!out->text)
		return tenon_fail(err, -ENOMEM, "%s: out of memory", name);
	int fd = mcall_open(AT_FDCWD, path, O_RDONLY);
	int code = fd < 0 ? fd : mcall_stat(fd, &status);
	if (code == 0)
		code = read_all(fd, out);
	if (fd >= 0)
		close(fd);
	if (code == 0 && secret && S_ISREG(status.st_mode) && (status.st_mode & S_IRWXO))
		code = tenon_fail(err, -EPERM, "%s: TLS: everybody may open the key %s; make it private (chmod 600)",
				  name, path);
	else if (code < 0)
		tenon_fail(err, code, "%s: TLS: cannot read %s: %s; give a file that this user can read", name, path,
			   strerror(-code));
	if (code < 0)
		forget(out);
	return code;
}

int tls_read_certificates(const char *name, const char *path, struct stack_st_X509 **out, struct tenon_error *err)
{
	struct file_text file;
	int code = read_file(name, path, false, &file, err);
	if (code < 0)
		return code;
	struct stack_st_X509 *found = sk_X509_new_null();
	BIO *bio = BIO_new_mem_buf(file.text, (int)file.bytes);
	X509 *certificate;
	while (found && bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		if (!sk_X509_push(found, certificate))
			X509_free(certificate);
	BIO_free(bio);
	forget(&file);
	ERR_clear_error(); /* of the end of the file */
	if (found && sk_X509_num(found) > 0) {
		*out = found;
		return 0;
	}
	sk_X509_free(found);
	return tenon_fail(err, -EINVAL, "%s: TLS: no certificate in %s; give one in PEM form", name, path);
}

/* Else OpenSSL would ask at the terminal. */
static int no_password(char *buffer, int size, int writing, void *context)
{
	return -1;
}

int tls_read_private_key(const char *name, const char *path, EVP_PKEY **out, struct tenon_error *err)
{
	struct file_text file;
	int code = read_file(name, path, true, &file, err);
	if (code < 0)
		return code;
	BIO *bio = BIO_new_mem_buf(file.text, (int)file.bytes);
	*out = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	BIO_free(bio);
	forget(&file);
	ERR_clear_error();
	if (*out)
		return 0;
	return tenon_fail(err, -EINVAL, "%s: TLS: no private key in %s; give one in PEM form, without a password", name,
			  path);
}

/* ---- Pre-shared keys ---- */

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* @return false: not an even number of hexadecimal digits, or too few or too many */
static bool parse_key(const char *text, size_t length, struct tls_context *context)
{
	if (length % 2 || length < 2 * TLS_KEY_BYTES_MIN || length > 2 * TLS_KEY_BYTES_MAX)
		return false;
	for (size_t i = 0; i < length; i += 2) {
		int high = digit(text[i]), low = digit(text[i + 1]);
		if (high < 0 || low < 0)
			return false;
		context->key[i / 2] = (uint8_t)(high << 4 | low);
	}
	context->key_bytes = length / 2;
	return true;
}

int tls_read_shared_key(const char *name, const char *path, struct tls_context *context, struct tenon_error *err)
{
	struct file_text file;
	int code = read_file(name, path, true, &file, err);
	if (code < 0)
		return code;
	size_t line = strcspn(file.text, "\r\n");
	bool one_line = line + strspn(file.text + line, "\r\n") == file.bytes;
	char *colon = memchr(file.text, ':', line);
	size_t identity = colon ? (size_t)(colon - file.text) : 0;
	bool good = one_line && identity > 0 && identity < sizeof(context->identity) &&
		    parse_key(colon + 1, line - identity - 1, context);
	if (good)
		memcpy(context->identity, file.text, identity);
	forget(&file);
	if (good)
		return 0;
	return tenon_fail(
		err, -EINVAL,
		"%s: TLS: %s is not one line IDENTITY:KEY with %d to %d hexadecimal digits of key; make one: echo "
		"migration:$(openssl rand -hex 32)",
		name, path, 2 * TLS_KEY_BYTES_MIN, 2 * TLS_KEY_BYTES_MAX);
}
