//! A placeholder, to be replaced as a whole by the REST skin's actor: the scenarios are not played on REST yet.

use std::net::SocketAddr;

use tertulia_wire::client::{Command, Push, Reply};

use crate::Login;

#[derive(Debug)]
pub struct Rest;

impl Rest {
    pub async fn new(_router: SocketAddr, _login: Login) -> Self {
        panic!("the scenarios are not played on REST yet");
    }

    pub async fn call(&mut self, command: Command) -> Reply {
        panic!("{} is not played on REST yet", command.type_name());
    }

    pub async fn push(&mut self) -> Push {
        panic!("REST has no pushes");
    }

    pub async fn pushes_so_far(&mut self) -> Vec<Push> {
        panic!("REST has no pushes");
    }
}
