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
async fn a_page_that_is_too_old_says_so_and_stays_away() {
    let cluster = Cluster::builder().set("router.min_client_version.web", "1000").start().await;
    let browser = Browser::launch().await;
    let page = browser.page(&cluster.router_url(1)).await;
    page.fill("login-name", "ana").await;
    page.press("Enter").await;
    page.wait_for("document.querySelector('[data-testid=banner]')?.textContent.includes('too old')").await;
    page.screenshot(&picture("outdated.png")).await;
    assert_eq!(unexpected_errors(&page).await, Vec::<String>::new());
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
    ana.wait_for("document.querySelector('[data-testid=peer-status]').textContent === 'online'").await;
    ana.wait_for(&format!("{MESSAGES}.at(-1).querySelector('[data-testid=tick]').dataset.state === 'read'")).await;
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

/// Opens the menu of the newest message that has this text, and chooses from it.
async fn choose(page: &Page, text: &str, item: &str) {
    let text = serde_json::to_string(text).expect("text is JSON");
    let has_text = format!("(it) => it.querySelector('[data-testid=message-text]').textContent === {text}");
    page.click_on(&format!("{MESSAGES}.findLast({has_text})?.querySelector('[data-testid=message-more]')")).await;
    page.click(item).await;
}

#[tokio::test]
async fn a_group_in_the_page_shows_what_happens_to_it_and_to_its_messages() {
    let cluster = Cluster::builder().start().await;
    let browser = Browser::launch().await;
    let (ana, bruno) = (browser.page(&cluster.router_url(1)).await, browser.page(&cluster.router_url(2)).await);
    ana.resize(1100, 720).await;
    bruno.resize(360, 700).await;
    bruno.prefer(ColourScheme::Dark).await;
    sign_in(&ana, "ana").await;
    sign_in(&bruno, "bruno").await;

    // What is written before the group is there waits for it.
    ana.click("new-group").await;
    ana.fill("group-name", "Libros").await;
    ana.fill("group-member", "bruno").await;
    ana.press("Enter").await;
    ana.click("group-create").await;
    write(&ana, "Bienvenidos").await;
    shows(&ana, &["Bienvenidos"]).await;

    // What happened to the group is a line, not a message.
    bruno.wait_for("document.querySelector('[data-testid=conversation][data-name=Libros]')").await;
    open(&bruno, "Libros").await;
    shows(&bruno, &["Bienvenidos"]).await;
    let lines = "[...document.querySelectorAll('[data-testid=event]')].map((it) => it.textContent)";
    bruno.wait_for(&format!("{lines}.includes('ana created the group “Libros” with you')")).await;
    ana.wait_for(&format!("{MESSAGES}.at(-1).querySelector('[data-testid=tick]').dataset.state === 'read'")).await;

    // Reactions, edits and deletions change the message that they are about, on both sides.
    choose(&bruno, "Bienvenidos", "react").await;
    for page in [&ana, &bruno] {
        page.wait_for("document.querySelector('[data-testid=reaction]')?.textContent === '👍1'").await;
    }
    choose(&ana, "Bienvenidos", "menu-edit").await;
    write(&ana, "Bienvenidos a todos").await;
    for page in [&ana, &bruno] {
        shows(page, &["Bienvenidos a todos"]).await;
    }
    bruno.fill("composer", "Gra").await;
    ana.wait_for("document.querySelector('[data-testid=peer-status]').textContent === 'bruno is typing…'").await;
    choose(&bruno, "Bienvenidos a todos", "menu-reply").await;
    write(&bruno, "Gracias").await;
    ana.wait_for("document.querySelector('[data-testid=quote]:not([hidden])')?.textContent.includes('a todos')").await;
    ana.screenshot(&picture("page-group-wide-light.png")).await;
    bruno.screenshot(&picture("page-group-phone-dark.png")).await;
    choose(&ana, "Bienvenidos a todos", "menu-delete").await;
    ana.click("confirm-yes").await;
    for page in [&ana, &bruno] {
        shows(page, &["Message deleted", "Gracias"]).await;
        page.wait_for("!document.querySelector('[data-testid=reaction]')").await;
    }

    // Who is removed sees that, and can write no more.
    ana.click("conversation-menu").await;
    ana.click("menu-members").await;
    let member =
        "[...document.querySelectorAll('[data-testid=member]')].find((it) => it.textContent.startsWith('Bbruno'))";
    ana.click_on(&format!("{member}?.querySelector('[data-testid=member-menu]')")).await;
    ana.click("remove-member").await;
    bruno.wait_for(&format!("{lines}.includes('ana removed you')")).await;
    bruno.wait_for("document.querySelector('[data-testid=composer]').getClientRects().length === 0").await;

    for page in [&ana, &bruno] {
        assert_eq!(unexpected_errors(page).await, Vec::<String>::new());
    }
}
