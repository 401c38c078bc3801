/*
 * websocket: what stub.c and load.c share of RFC 6455.
 *
 * The answer to a handshake's key, and the head of a frame. Nothing is negotiated: no extension, no subprotocol.
 */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WS_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define WS_KEY_CHARS 24    /* 16 bytes in base64 */
#define WS_ACCEPT_CHARS 28 /* 20 bytes in base64 */
#define WS_MAX_HEAD_BYTES 14

enum { WS_MORE = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* ------------------------------------------------------------------------------------------------ the handshake */

static inline uint32_t ws_rotated(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

/* One round of SHA-1 (RFC 3174) over a block of 64 bytes. */
static inline void ws_sha1_block(uint32_t h[5], const unsigned char *block)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = ws_rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t next = ws_rotated(a, 5) + f + e + k + w[i];
        e = d, d = c, c = ws_rotated(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Writes the base64 of `n` bytes and a NUL. */
static inline void ws_base64(const unsigned char *bytes, size_t n, char *out)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = (uint32_t)bytes[i] << 16 | (i + 1 < n ? bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
        *out++ = DIGITS[three >> 18];
        *out++ = DIGITS[three >> 12 & 63];
        *out++ = i + 1 < n ? DIGITS[three >> 6 & 63] : '=';
        *out++ = i + 2 < n ? DIGITS[three & 63] : '=';
    }
    *out = 0;
}

/* Writes the value of sec-websocket-accept for a key. False: the key is none. */
static inline bool ws_accept(const char *key, size_t key_len, char out[WS_ACCEPT_CHARS + 1])
{
    unsigned char text[128] = {0}, digest[20];
    size_t n = WS_KEY_CHARS + sizeof WS_GUID - 1;
    if (key_len != WS_KEY_CHARS)
        return false;
    memcpy(text, key, WS_KEY_CHARS);
    memcpy(text + WS_KEY_CHARS, WS_GUID, sizeof WS_GUID - 1);
    text[n] = 0x80; /* 60 characters: the padding needs a second block */
    text[126] = n * 8 >> 8;
    text[127] = n * 8 & 255;
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    ws_sha1_block(h, text);
    ws_sha1_block(h, text + 64);
    for (int i = 0; i < 20; i++)
        digest[i] = h[i / 4] >> (24 - i % 4 * 8);
    ws_base64(digest, sizeof digest, out);
    return true;
}

/* ------------------------------------------------------------------------------------------------ frames */

typedef struct {
    int opcode;
    bool fin, masked;
    unsigned char mask[4];
    size_t head_bytes;
    uint64_t bytes; /* of the payload */
} WsHead;

/* Writes the head of a whole message's only frame; `mask` is NULL for a server. Returns its length. */
static inline size_t ws_write_head(unsigned char *out, int opcode, uint64_t bytes, const unsigned char *mask)
{
    unsigned char *p = out, flag = mask ? 0x80 : 0;
    *p++ = 0x80 | opcode;
    if (bytes < 126) {
        *p++ = flag | (unsigned char)bytes;
    } else {
        int digits = bytes < 65536 ? 2 : 8;
        *p++ = flag | (digits == 2 ? 126 : 127);
        while (digits--)
            *p++ = bytes >> digits * 8;
    }
    if (mask) {
        memcpy(p, mask, 4);
        p += 4;
    }
    return p - out;
}

/* Reads the head of a frame. False: not all of it is there. */
static inline bool ws_read_head(const void *data, size_t n, WsHead *head)
{
    const unsigned char *p = data;
    if (n < 2)
        return false;
    int short_len = p[1] & 127, digits = short_len < 126 ? 0 : short_len == 126 ? 2 : 8;
    head->opcode = p[0] & 15;
    head->fin = p[0] & 0x80;
    head->masked = p[1] & 0x80;
    head->head_bytes = 2 + digits + (head->masked ? 4 : 0);
    if (n < head->head_bytes)
        return false;
    head->bytes = digits ? 0 : short_len;
    for (int i = 0; i < digits; i++)
        head->bytes = head->bytes << 8 | p[2 + i];
    if (head->masked)
        memcpy(head->mask, p + 2 + digits, 4);
    return true;
}

/* Masks or unmasks in place. */
static inline void ws_mask(char *data, size_t n, const unsigned char mask[4])
{
    uint64_t word, twice;
    memcpy(&word, mask, 4);
    memcpy((char *)&word + 4, mask, 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&twice, data + i, 8);
        twice ^= word;
        memcpy(data + i, &twice, 8);
    }
    for (; i < n; i++)
        data[i] ^= mask[i & 3];
}

#endif
