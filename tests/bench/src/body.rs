//! What the messages say: text that can be made again from a message's number, so that every byte that arrives can be
//! checked without remembering what was sent.

/// Chat as people write it, in several scripts, with quotes and line breaks that JSON must escape.
const PHRASES: &[&str] = &[
    "are we still on for tonight? ",
    "ok ",
    "I'll be ten minutes late, the bus has not come. ",
    "jajaja sí, claro ",
    "Can you send me the address again? I can't find it in the chat. ",
    "😂😂 ",
    "she said \"maybe\", which means no ",
    "Nos vemos a las ocho en la plaza, donde siempre. ",
    "👍 ",
    "did you see the match? ",
    "Bis später! ",
    "first line\nsecond line\n",
    "明日の会議は十時からです。 ",
    "Thanks for yesterday, it was lovely to see everyone again after all this time. ",
    "on my way ",
    "что нового? ",
    "no worries :) ",
    "C:\\photos\\2024 is where I put them ",
];

/// Enough text for the longest body.
const CORPUS_BYTES: usize = 64 * 1024;
const LONG_BYTES: usize = 2048;
const LONG_PERCENT: u64 = 1;
const SHORTEST_BYTES: usize = 12;
const LONGEST_USUAL_BYTES: usize = 600;

pub struct Bodies {
    corpus: String,
    fixed_bytes: Option<usize>,
}

impl Bodies {
    /// Realistic sizes, or every body of exactly so many bytes.
    pub fn new(fixed_bytes: Option<usize>) -> Self {
        let mut corpus = String::with_capacity(CORPUS_BYTES + 128);
        let mut state = 1;
        while corpus.len() < CORPUS_BYTES {
            state = scramble(state);
            corpus.push_str(PHRASES[(state % PHRASES.len() as u64) as usize]);
        }
        Self { corpus, fixed_bytes }
    }

    /// The text of a pair's n-th message.
    pub fn text(&self, pair: u32, number: u32) -> String {
        let random = scramble(u64::from(pair) << 32 | u64::from(number));
        let wanted = self.fixed_bytes.unwrap_or_else(|| realistic_bytes(random));
        let mut start = (scramble(random) % (CORPUS_BYTES - 16 * 1024 - 8) as u64) as usize;
        while !self.corpus.is_char_boundary(start) {
            start += 1;
        }
        let mut end = start + wanted;
        while !self.corpus.is_char_boundary(end) {
            end -= 1;
        }
        let mut text = String::with_capacity(wanted);
        text.push_str(&self.corpus[start..end]);
        // Characters of several bytes at the cut: the size asked for is kept.
        text.extend(std::iter::repeat_n('.', wanted - text.len()));
        text
    }
}

/// Log-normal around 60 bytes, as chat is; and now and then a long one.
fn realistic_bytes(random: u64) -> usize {
    if random % 100 < LONG_PERCENT {
        return LONG_BYTES;
    }
    // The sum of twelve uniform numbers, less six, is as good as normal.
    let mut state = random;
    let mut sum = 0.0;
    for _ in 0..12 {
        state = scramble(state);
        sum += (state >> 11) as f64 / (1_u64 << 53) as f64;
    }
    let bytes = 60.0 * (0.8 * (sum - 6.0)).exp();
    (bytes as usize).clamp(SHORTEST_BYTES, LONGEST_USUAL_BYTES)
}

/// SplitMix64: one step of a good, stable mixer.
fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_chat() {
        let bodies = Bodies::new(None);
        let mut sizes: Vec<usize> = (0..20_000).map(|n| bodies.text(n % 7, n).len()).collect();
        sizes.sort_unstable();
        let median = sizes[sizes.len() / 2];
        let long = sizes.iter().filter(|&&size| size == LONG_BYTES).count();
        assert!((50..=70).contains(&median), "median {median}");
        assert!((100..=300).contains(&long), "{long} long ones in 20,000");
    }

    #[test]
    fn a_fixed_size_is_exact_and_the_text_comes_out_the_same_again() {
        for bytes in [1, 63, 2048, 16_384] {
            let (one, other) = (Bodies::new(Some(bytes)), Bodies::new(Some(bytes)));
            for number in 0..200 {
                assert_eq!(one.text(3, number).len(), bytes);
                assert_eq!(one.text(3, number), other.text(3, number));
            }
        }
    }
}
