//! Hosts of a cluster's own: a network namespace for each process, all on one bridge, so that what is between any two of them
//! can be cut or spoilt, in either direction. Wants root, iproute2 and iptables.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
};

use crate::member::Member;

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
        let name = format!("ttp{}", std::process::id());
        let works = |arguments: &str| {
            let arguments = arguments.replace("NAME", &name);
            Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
        };
        let trials = [
            ("link show", "iproute2 is not installed"),
            ("link add NAME type bridge", "this process may not make a bridge: it wants root"),
            ("netns add NAME", "this process may not make a network namespace"),
            (
                "netns exec NAME iptables -w -A INPUT -m statistic --mode random --probability 0.5 -j DROP",
                "iptables does not work here",
            ),
        ];
        let missing = trials.into_iter().find(|(trial, _)| !works(trial));
        works("netns del NAME");
        works("link del NAME");
        missing.map(|(_, why)| why)
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
        let names: Vec<String> =
            hosts.numbers.keys().map(|member| format!("netns {}\n", hosts.name(*member))).collect();
        fs::write(folder.join("hosts"), format!("{}link {bridge}\n", names.concat())).expect("a file can be written");
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

    /// Every host hears everything again.
    pub fn mend(&self) {
        self.numbers.keys().for_each(|member| self.filter(*member, "-F INPUT"));
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
