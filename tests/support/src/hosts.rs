//! Hosts of a cluster's own: a network namespace for each process, all on one bridge, so that what is between any two of them
//! can be cut or spoilt, in either direction. Wants root, iproute2 and iptables.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
};

use crate::{
    datagrams::{HeldBack, HoldBack, QUEUE},
    member::Member,
};

/// The networks are 10.201.1.0/24 to 10.201.250.0/24.
const NETWORKS: std::ops::RangeInclusive<u8> = 1..=250;
/// Where the test itself is, on each of them.
const GATEWAY: u8 = 1;

#[derive(Debug)]
pub struct Hosts {
    network: u8,
    /// The last byte of each one's address.
    numbers: BTreeMap<Member, u8>,
}

impl Hosts {
    /// What is missing for this, in words. Found out by trying, for not every root may make hosts.
    pub fn unavailable() -> Option<&'static str> {
        let random_loss = "-A INPUT -m statistic --mode random --probability 0.5 -j DROP";
        Self::missing(&[(random_loss, "iptables does not work here")])
    }

    /// The same for hosts to which datagrams come late or twice.
    pub fn unavailable_for_datagrams() -> Option<&'static str> {
        let queue = format!("-A INPUT -p udp -j NFQUEUE --queue-num {QUEUE} --queue-bypass");
        let double = "-A OUTPUT -p udp -j TEE --gateway 10.201.0.1";
        let rules = [(queue.as_str(), "iptables has no NFQUEUE here"), (double, "iptables has no TEE here")];
        Self::unavailable().or_else(|| Self::missing(&rules))
    }

    /// Tries these rules of iptables, each with what it means where it fails, on a host.
    fn missing(rules: &[(&str, &'static str)]) -> Option<&'static str> {
        let name = format!("ttp{}", std::process::id());
        let works = |arguments: &str| {
            let arguments = arguments.replace("NAME", &name);
            Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
        };
        let trials = [
            ("link show", "iproute2 is not installed"),
            ("link add NAME type bridge", "this process may not make a bridge: it wants root"),
            ("netns add NAME", "this process may not make a network namespace"),
        ];
        let mut missing = trials.into_iter().find(|(trial, _)| !works(trial)).map(|(_, why)| why);
        if missing.is_none() {
            let works = |rule: &str| works(&format!("netns exec NAME iptables -w {rule}"));
            missing = rules.iter().find(|(rule, _)| !works(rule)).map(|(_, why)| *why);
        }
        works("netns del NAME");
        works("link del NAME");
        missing
    }

    /// Makes the network and the hosts. `folder` is guarded by a [watchdog](crate::watchdog), which removes them again.
    pub fn create(folder: &Path, members: &[Member]) -> Self {
        let is_free = |network: &u8| {
            let bridge = format!("tt{network}");
            Command::new("ip")
                .args(["link", "add", &bridge, "type", "bridge"])
                .output()
                .is_ok_and(|it| it.status.success())
        };
        let network = NETWORKS.into_iter().find(is_free).expect("one of the networks is free, and this is root");
        let numbers = members.iter().copied().zip(GATEWAY + 1..).collect();
        let hosts = Self { network, numbers };
        let bridge = format!("tt{network}");
        // A namespace goes some time after it was removed, and its link with it, unless that was removed before.
        let parts =
            |(member, number): (&Member, &u8)| format!("link tt{network}v{number}\nnetns {}\n", hosts.name(*member));
        let names: String = hosts.numbers.iter().map(parts).collect();
        fs::write(folder.join("hosts"), format!("{names}link {bridge}\n")).expect("a file can be written");
        ip(&format!("addr add {}/24 dev {bridge}", hosts.address(GATEWAY)));
        ip(&format!("link set {bridge} up"));
        for (&member, &number) in &hosts.numbers {
            let (name, port) = (hosts.name(member), format!("tt{network}v{number}"));
            ip(&format!("netns add {name}"));
            ip(&format!("link add {port} type veth peer name eth0 netns {name}"));
            ip(&format!("link set {port} master {bridge} up"));
            ip(&format!("-n {name} addr add {}/24 dev eth0", hosts.address(number)));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        hosts
    }

    pub fn ip(&self, member: Member) -> IpAddr {
        IpAddr::V4(self.address(self.numbers[&member]))
    }

    /// All hosts' addresses, as Postgres writes it.
    pub fn network(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// A command that runs what is appended to it on the member's host.
    pub fn enter(&self, member: Member) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(member)]);
        command
    }

    /// `to` no longer hears `from`; the other way goes on.
    pub fn cut(&self, from: Member, to: Member) {
        self.filter(to, &format!("-A INPUT -s {} -j DROP", self.ip(from)));
    }

    /// `to` loses this share of what comes from other hosts.
    pub fn lose(&self, to: Member, share: f64) {
        let random = format!("-m statistic --mode random --probability {share}");
        self.filter(to, &format!("-A INPUT ! -s {} {random} -j DROP", self.address(GATEWAY)));
    }

    /// Every host gets the datagrams of others as `how` says, for as long as what is returned lives.
    pub fn hold_back(&self, how: HoldBack, seed: u64) -> std::io::Result<HeldBack> {
        let names: Vec<String> = self.numbers.keys().map(|member| self.name(*member)).collect();
        let held = HeldBack::start(&names, how, seed)?;
        // Without anybody at the queue, the bypass delivers at once.
        let queue = format!("-j NFQUEUE --queue-num {QUEUE} --queue-bypass");
        for &member in self.numbers.keys() {
            self.filter(member, &format!("-A INPUT -p udp ! -s {} {queue}", self.address(GATEWAY)));
        }
        Ok(held)
    }

    /// This share of the datagrams that a host sends to another arrives twice.
    pub fn double(&self, share: f64) {
        let random = format!("-m statistic --mode random --probability {share}");
        let have_quic = || self.numbers.keys().filter(|it| matches!(it, Member::Node(_) | Member::Router(_)));
        for &from in have_quic() {
            for &to in have_quic().filter(|to| **to != from) {
                let to = self.ip(to);
                self.filter(from, &format!("-A OUTPUT -p udp -d {to} {random} -j TEE --gateway {to}"));
            }
        }
    }

    /// Every host hears everything again, at once and once.
    pub fn mend(&self) {
        self.numbers.keys().for_each(|member| self.filter(*member, "-F"));
    }

    fn filter(&self, member: Member, rule: &str) {
        run(self.enter(member).args(["iptables", "-w"]).args(rule.split(' ')));
    }

    fn name(&self, member: Member) -> String {
        format!("tt{}-{member}", self.network)
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 201, self.network, number)
    }
}

fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' ')));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
