//! The scenario suite: what a chat app expects, each scenario written once and run on every skin, and with all skins
//! talking to each other, on three nodes and two routers.

#[path = "scenarios/conversations.rs"]
mod conversations;
#[path = "scenarios/mailboxes.rs"]
mod mailboxes;
#[path = "scenarios/messages.rs"]
mod messages;
#[path = "scenarios/people.rs"]
mod people;
#[path = "scenarios/stage.rs"]
mod stage;

use stage::{Casting, Needs, Scenario, play};
use tertulia_test_support::actor::Skin;

macro_rules! scenarios {
    ($($needs:ident $module:ident::$name:ident,)*) => {
        &[$(Scenario { name: stringify!($name), needs: Needs::$needs, play: |stage| Box::pin($module::$name(stage)) },)*]
    };
}

const SCENARIOS: &[Scenario] = scenarios![
    Anything messages::two_people_chat,
    Anything messages::a_retry_is_harmless_and_another_payload_is_a_conflict,
    Anything messages::an_edit_is_seen_by_all_and_stays_in_the_history,
    Anything messages::a_deletion_erases_the_content_and_keeps_the_place,
    Anything messages::reactions_come_and_go_once_each,
    Anything messages::replies_attachments_and_mentions_pass_through,
    Anything messages::encrypted_content_is_relayed_as_it_came,
    Anything messages::notes_to_oneself_work,
    Anything messages::bad_input_is_refused_by_name,
    Anything conversations::a_group_begins_and_everybody_hears_of_it,
    Anything conversations::members_come_and_go,
    Anything conversations::roles_decide_who_may_what,
    Anything conversations::a_group_without_owner_gets_one,
    Anything conversations::a_stranger_cannot_tell_a_conversation_from_none,
    Anything conversations::a_member_list_pages_without_a_hole,
    Anything conversations::creating_twice_makes_one_group,
    Anything mailboxes::unread_is_what_the_log_says,
    Live mailboxes::receipts_reach_the_sender_and_the_readers_other_devices,
    Live mailboxes::the_senders_other_devices_see_what_it_sent,
    Anything mailboxes::a_delta_sync_covers_everything,
    Anything mailboxes::a_rev_of_another_life_asks_for_a_reset,
    Anything mailboxes::pages_of_sync_and_history_meet_without_a_hole,
    Anything mailboxes::a_block_stops_both_ways,
    Live people::presence_is_told_to_those_who_may_know,
    Live people::typing_is_shown_and_a_switch_hides_it,
    Anything people::a_profile_is_set_and_seen,
    Live people::a_block_hides_presence_typing_and_receipts,
];

#[tokio::test]
async fn every_scenario_passes_on_the_native_skin_in_json() {
    play(SCENARIOS, Casting::All(Skin::NativeJson)).await;
}

#[tokio::test]
async fn every_scenario_passes_on_the_native_skin_in_message_pack() {
    play(SCENARIOS, Casting::All(Skin::NativeMessagePack)).await;
}

#[tokio::test]
async fn every_scenario_passes_with_the_official_javascript_client() {
    play(SCENARIOS, Casting::All(Skin::SocketIoJavaScript)).await;
}

#[tokio::test]
async fn every_scenario_passes_with_the_official_python_client() {
    play(SCENARIOS, Casting::All(Skin::SocketIoPython)).await;
}

#[tokio::test]
async fn every_scenario_that_needs_no_live_pushes_passes_on_rest() {
    play(SCENARIOS, Casting::All(Skin::Rest)).await;
}

#[tokio::test]
async fn all_skins_talk_to_each_other() {
    play(SCENARIOS, Casting::Mixed).await;
}
