use std::process::ExitCode;

use tertulia_node::process;
use tertulia_runtime::cli::{Role, run_process};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run_process("tertulia-node", "Owns slots of a Tertulia cluster", Role::Node, process::run)
}
