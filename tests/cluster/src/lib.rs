//! Tests of whole clusters: see `tests/`. Each starts its own, by the harness in `tests/support`.
