//! The chat page, as two people use it: in a real browser, on two routers of a real cluster. Pictures of it are kept under
//! `target/screenshots`.

use std::path::PathBuf;

use tertulia_test_support::{
    Cluster, Member,
    browser::{Browser, ColourScheme, Network, Page},
};

const MESSAGES: &str = "[...document.querySelectorAll('[data-testid=message]')]";
const TEXTS: &str = "[...document.querySelectorAll('[data-testid=message-text]')].map((it) => it.textContent)";

async fn sign_in(page: &Page, name: &str) {
    page.fill("login-name", name).await;
    page.press("Enter").await;
    page.wait_for(&online("==='online'")).await;
}

fn online(comparison: &str) -> String {
    format!("document.querySelector('[data-testid=connection]')?.dataset.state{comparison}")
}

async fn write(page: &Page, text: &str) {
    page.fill("composer", text).await;
    page.press("Enter").await;
}

/// Waits until the page shows exactly these messages, in this order, all of them sent.
async fn shows(page: &Page, texts: &[&str]) {
    let wanted = serde_json::to_string(texts).expect("texts are JSON");
    page.wait_for(&format!("JSON.stringify({TEXTS}) === JSON.stringify({wanted})")).await;
    page.wait_for(&format!("{MESSAGES}.every((it) => it.dataset.state === 'sent')")).await;
}

async fn open(page: &Page, name: &str) {
    let row = format!("document.querySelector('[data-testid=conversation][data-name=\"{name}\"] button')");
    page.click_on(&row).await;
}

fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots").join(name)
}

/// Errors other than those of connections that the test itself cut.
async fn unexpected_errors(page: &Page) -> Vec<String> {
    let errors = page.errors().await;
    errors.into_iter().filter(|error| !error.contains("WebSocket connection to")).collect()
}

#[tokio::test]
async fn two_people_chat_in_the_page_across_two_routers() {
    let cluster = Cluster::builder().start().await;
    let browser = Browser::launch().await;
    let (ana, bruno) = (browser.page(&cluster.router_url(1)).await, browser.page(&cluster.router_url(2)).await);
    ana.resize(1100, 720).await;
    bruno.resize(390, 760).await;
    bruno.prefer(ColourScheme::Dark).await;
    sign_in(&ana, "ana").await;
    sign_in(&bruno, "bruno").await;

    // A conversation comes into being with its first message.
    ana.fill("new-name", "Bruno").await;
    ana.press("Enter").await;
    write(&ana, "¡Hola, Bruno!").await;
    shows(&ana, &["¡Hola, Bruno!"]).await;

    // The other sees it in the list, unread, by name, without a reload.
    bruno.wait_for("document.querySelector('[data-testid=conversation]')?.dataset.name === 'ana'").await;
    bruno.wait_for("document.querySelector('[data-testid=unread]').textContent === '1'").await;
    open(&bruno, "ana").await;
    shows(&bruno, &["¡Hola, Bruno!"]).await;
    bruno.wait_for("document.querySelector('[data-testid=unread]').hidden").await;

    // Text is text, whatever it looks like.
    let answer = "Buenas, Ana. <b>Mañana</b> a las siete, ¿no?";
    write(&bruno, answer).await;
    shows(&ana, &["¡Hola, Bruno!", answer]).await;
    write(&ana, "Claro que sí").await;
    write(&ana, "Llevo el libro").await;
    let all = ["¡Hola, Bruno!", answer, "Claro que sí", "Llevo el libro"];
    shows(&ana, &all).await;
    shows(&bruno, &all).await;
    ana.screenshot(&picture("page-wide-light.png")).await;
    bruno.screenshot(&picture("page-phone-dark.png")).await;

    // A reload keeps the sign-in, the open conversation and its history.
    ana.reload().await;
    shows(&ana, &all).await;
    // So does another browser: the history is the server's.
    let elsewhere = browser.page(&cluster.router_url(2)).await;
    sign_in(&elsewhere, "ana").await;
    open(&elsewhere, "bruno").await;
    shows(&elsewhere, &all).await;

    for page in [&ana, &bruno, &elsewhere] {
        assert_eq!(unexpected_errors(page).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_page_that_lost_its_connection_comes_back_in_order_with_what_was_missed() {
    let cluster = Cluster::builder().start().await;
    let browser = Browser::launch().await;
    let (ana, bruno) = (browser.page(&cluster.router_url(1)).await, browser.page(&cluster.router_url(2)).await);
    ana.resize(1100, 720).await;
    sign_in(&ana, "ana").await;
    sign_in(&bruno, "bruno").await;
    ana.fill("new-name", "bruno").await;
    ana.press("Enter").await;
    write(&ana, "first").await;
    open(&bruno, "ana").await;
    shows(&bruno, &["first"]).await;

    // Her network goes. What she writes waits, what he writes is missed.
    ana.set_network(Network::Offline).await;
    ana.wait_for(&online("==='offline'")).await;
    write(&ana, "waits 1").await;
    write(&ana, "waits 2").await;
    ana.wait_for(&format!("{MESSAGES}.slice(-2).every((it) => it.dataset.state === 'pending')")).await;
    ana.screenshot(&picture("page-offline.png")).await;
    for number in 1..=3 {
        write(&bruno, &format!("missed {number}")).await;
    }
    let so_far = ["first", "missed 1", "missed 2", "missed 3"];
    shows(&bruno, &so_far).await;
    ana.set_network(Network::Online).await;
    let mut all = [&so_far[..], &["waits 1", "waits 2"]].concat();
    shows(&ana, &all).await;
    shows(&bruno, &all).await;

    // Her router dies under her. She closes nothing and reloads nothing.
    cluster.kill(Member::Router(1));
    ana.wait_for(&online("!=='online'")).await;
    write(&ana, "waits 3").await;
    write(&bruno, "missed 4").await;
    all.push("missed 4");
    shows(&bruno, &all).await;
    cluster.start(Member::Router(1));
    all.push("waits 3");
    shows(&ana, &all).await;
    shows(&bruno, &all).await;
    let seqs: Vec<String> = ana.eval(&format!("{MESSAGES}.map((it) => it.dataset.seq)")).await;
    assert_eq!(seqs, (1..=all.len()).map(|seq| seq.to_string()).collect::<Vec<_>>());

    for page in [&ana, &bruno] {
        assert_eq!(unexpected_errors(page).await, Vec::<String>::new());
    }
}
