//! `tertulia-router --config cluster.toml --id 1`

use std::process::ExitCode;

use tertulia_runtime::cli::{Role, run_process};

/// Sessions are many small allocations that live long: the system's allocator would fragment.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run_process(
        "tertulia-router",
        "Edge router of a Tertulia cluster: clients connect here",
        Role::Router,
        tertulia_router::run,
    )
}
