// Ids of the protocol: ULIDs as text, and the id of a direct conversation, which is derived from its two users.

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DIRECT_DOMAIN = new TextEncoder().encode("tertulia/direct/v1");

/** A new ULID: 48 bits of milliseconds, 80 random bits. */
export function newUlid(nowMs = Date.now()) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let time = nowMs;
  for (let i = 5; i >= 0; i--) {
    bytes[i] = time % 256;
    time = Math.floor(time / 256);
  }
  return toText(bytes);
}

/** SHA-256("tertulia/direct/v1" ‖ lower id ‖ higher id), first 16 bytes, top bit set. */
export function directConversationId(userA, userB) {
  const [lo, hi] = userA <= userB ? [userA, userB] : [userB, userA];
  const digest = sha256(Uint8Array.from([...DIRECT_DOMAIN, ...toBytes(lo), ...toBytes(hi)]));
  const bytes = digest.slice(0, 16);
  bytes[0] |= 0x80;
  return toText(bytes);
}

/** 26 characters of Crockford base32 hold 130 bits: the first one only 3. */
function toText(bytes) {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  let text = "";
  for (let i = 0; i < 26; i++) {
    text = ALPHABET[Number(value & 31n)] + text;
    value >>= 5n;
  }
  return text;
}

function toBytes(text) {
  let value = 0n;
  for (const character of text) value = (value << 5n) | BigInt(ALPHABET.indexOf(character));
  const bytes = new Uint8Array(16);
  for (let i = 15; i >= 0; i--) {
    bytes[i] = Number(value & 255n);
    value >>= 8n;
  }
  return bytes;
}

/** FIPS 180-4. The browser's own is asynchronous, and absent on plain HTTP other than to the local machine. */
function sha256(message) {
  const { initial, rounds } = sha256Constants();
  const state = Uint32Array.from(initial);
  const length = message.length;
  const padded = new Uint8Array(Math.ceil((length + 9) / 64) * 64);
  padded.set(message);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, length * 8);
  const w = new Uint32Array(64);
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(block + i * 4);
    for (let i = 16; i < 64; i++) {
      const s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + rounds[i] + w[i]) >>> 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) >>> 0;
      [a, b, c, d, e, f, g, h] = [(t1 + t2) >>> 0, a, b, c, (d + t1) >>> 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] += value));
  }
  const digest = new Uint8Array(32);
  state.forEach((word, i) => new DataView(digest.buffer).setUint32(i * 4, word));
  return digest;
}

let constants;

/** The first 32 bits of the fractions of the square and cube roots of the first primes. */
function sha256Constants() {
  if (constants) return constants;
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32) >>> 0;
  const initial = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
  constants = { initial, rounds: primes.map((p) => fraction(Math.cbrt(p))) };
  return constants;
}
