//! Datagrams that reach a host late. The kernel asks about each one that a host is to get (`NFQUEUE`), and delivers it when it is
//! answered; the bytes stay with the kernel. A thread of its own answers, so that a busy test does not add to what it holds back.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nfq::{Message, Queue, Verdict};
use rand::{Rng, SeedableRng as _, rngs::StdRng};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Of each host its only one.
pub const QUEUE: u16 = 0;
/// More are lost, as any network does it.
const HELD_MAX: u32 = 16_384;
/// How exact the times are.
const POLL: Duration = Duration::from_millis(1);

/// Which datagrams are held back, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldBack {
    /// Of all; the others are delivered at once, and overtake these.
    pub share: f64,
    pub least: Duration,
    pub most: Duration,
}

impl HoldBack {
    /// Every one for this long: none overtakes another.
    pub const fn all(time: Duration) -> Self {
        Self { share: 1.0, least: time, most: time }
    }

    fn time(&self, dice: &mut impl Rng) -> Duration {
        match dice.random_bool(self.share) {
            true => dice.random_range(self.least..=self.most),
            false => Duration::ZERO,
        }
    }
}

/// It ends when this is dropped: what is held then is delivered.
#[derive(Debug)]
pub struct HeldBack {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HeldBack {
    /// On these hosts, named as their network namespaces are, for whatever their rules send to [`QUEUE`].
    pub fn start(hosts: &[String], how: HoldBack, seed: u64) -> io::Result<Self> {
        let queues = hosts.iter().map(|host| open(host)).collect::<io::Result<Vec<_>>>()?;
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::Builder::new()
            .name("datagrams".into())
            .spawn(move || hold_back(queues, how, StdRng::seed_from_u64(seed), &ends))?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket belongs to the network namespace that its thread was in: hence a thread that ends with this.
fn open(host: &str) -> io::Result<Queue> {
    let open = || {
        let namespace = File::open(Path::new("/run/netns").join(host))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let mut queue = Queue::open()?;
        queue.bind(QUEUE)?;
        queue.set_copy_range(QUEUE, 0)?;
        queue.set_queue_max_len(QUEUE, HELD_MAX)?;
        queue.set_nonblocking(true);
        Ok(queue)
    };
    thread::scope(|scope| scope.spawn(open).join()).unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

fn hold_back(queues: Vec<Queue>, how: HoldBack, mut dice: StdRng, over: &AtomicBool) {
    let mut queues: Vec<(Queue, Held<Message>)> = queues.into_iter().map(|queue| (queue, Held::default())).collect();
    loop {
        let is_over = over.load(Ordering::Relaxed);
        for (queue, held) in &mut queues {
            // An error is that there is none, or that the kernel had no memory for one, which then is lost.
            while let Ok(message) = queue.recv() {
                held.hold(message, Instant::now() + how.time(&mut dice));
            }
            while let Some(mut message) = held.next_due(if is_over { None } else { Some(Instant::now()) }) {
                message.set_verdict(Verdict::Accept);
                let _ = queue.verdict(message);
            }
        }
        if is_over {
            return;
        }
        thread::sleep(POLL);
    }
}

/// What waits for its time; what is due at the same time leaves in the order in which it came.
struct Held<T> {
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    count: u64,
}

struct Waiting<T> {
    due: (Instant, u64),
    what: T,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { waiting: BinaryHeap::new(), count: 0 }
    }
}

impl<T> Held<T> {
    fn hold(&mut self, what: T, until: Instant) {
        self.count += 1;
        self.waiting.push(Reverse(Waiting { due: (until, self.count), what }));
    }

    /// The next one that is due by then, or at all.
    fn next_due(&mut self, now: Option<Instant>) -> Option<T> {
        let Reverse(next) = self.waiting.peek()?;
        if now.is_some_and(|now| next.due.0 > now) {
            return None;
        }
        self.waiting.pop().map(|Reverse(waiting)| waiting.what)
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_held_leaves_when_it_is_due_in_order() {
        let zero = Instant::now();
        let mut held = Held::default();
        for (what, due) in [("late", 30), ("first", 10), ("second", 10), ("never", 90)] {
            held.hold(what, zero + due * MS);
        }
        let mut until = |time: Option<u32>| {
            std::iter::from_fn(|| held.next_due(time.map(|time| zero + time * MS))).collect::<Vec<_>>()
        };
        assert!(until(Some(9)).is_empty());
        assert_eq!(until(Some(10)), ["first", "second"]);
        assert_eq!(until(Some(50)), ["late"]);
        assert_eq!(until(None), ["never"]);
    }

    #[test]
    fn a_share_is_held_back_within_the_bounds() {
        let mut dice = StdRng::seed_from_u64(1);
        let how = HoldBack { share: 0.25, least: 5 * MS, most: 9 * MS };
        let times: Vec<Duration> = (0..1000).map(|_| how.time(&mut dice)).filter(|time| !time.is_zero()).collect();
        assert!((200..300).contains(&times.len()), "{}", times.len());
        assert!(times.iter().all(|time| (5 * MS..=9 * MS).contains(time)));
        assert_eq!(HoldBack::all(7 * MS).time(&mut dice), 7 * MS);
    }
}
