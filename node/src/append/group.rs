//! Decisions about groups: how they begin, who is in them, who may what.

use std::collections::HashSet;

use tertulia_shard_map::{Seq, UserId};
use tertulia_wire::{
    EventKind, GroupBody, GroupMember, Role,
    cluster::{Action, Append, Authority, Membership, Recipient, Refusal},
    encode_group,
    limits::GROUP_MEMBERS_MAX,
};

use super::{
    conversation::{Kind, Member},
    event::{Audience, NewEvent, commit},
    log::{Decision, Scene},
};
use crate::store::{Senior, WrittenMember};

/// The sender of what the app says itself.
const APP: UserId = UserId::from_u128(0);

/// Why a change is not made now.
enum Not {
    Allowed(Refusal),
    /// Who is senior has to be looked up first.
    Known,
}

impl From<Refusal> for Not {
    fn from(refusal: Refusal) -> Self {
        Self::Allowed(refusal)
    }
}

pub(super) fn decide(scene: &mut Scene<'_, '_>, append: &Append, payload_hash: i64) -> Result<Decision, Refusal> {
    if matches!(scene.conversation.kind, Kind::Direct(_)) {
        return Err(Refusal::NotAllowed("a direct conversation has two members and no name".into()));
    }
    let new = match &append.action {
        Action::Create { name, users } => create(scene, append, name, users).map_err(Not::from),
        Action::Rename { name } => rename(scene, append, name).map_err(Not::from),
        Action::Add { users } => add(scene, append, users).map_err(Not::from),
        Action::Remove { users } => remove(scene, append, users),
        Action::SetRole { user, role } => set_role(scene, append, *user, *role),
        Action::Leave => leave(scene, append),
        _ => Err(Not::Allowed(Refusal::Internal)),
    };
    let new = match new {
        Ok(new) => new,
        Err(Not::Allowed(refusal)) => return Err(refusal),
        Err(Not::Known) => return Ok(Decision::Later),
    };
    // The number of members, the name and the size are the conversation's; a role is not.
    if new.kind != EventKind::RoleChanged {
        scene.draft.conversation(scene.conversation.written(scene.id));
    }
    if new.kind != EventKind::Renamed {
        scene.details.forget_seniority(scene.id);
    }
    Ok(commit(scene, append, payload_hash, new))
}

fn create(scene: &mut Scene<'_, '_>, append: &Append, name: &str, users: &[UserId]) -> Result<NewEvent, Refusal> {
    let mut listed = HashSet::new();
    let creator = (append.sender != APP).then_some(append.sender);
    let everybody: Vec<UserId> =
        creator.into_iter().chain(users.iter().copied()).filter(|user| listed.insert(*user)).collect();
    let members: Vec<GroupMember> = everybody
        .into_iter()
        .enumerate()
        // A group of the app's has the first of its members for an owner.
        .map(|(place, user)| GroupMember { user, role: if place == 0 { Role::Owner } else { Role::Member } })
        .collect();
    if members.is_empty() {
        return Err(Refusal::Invalid("a group needs a member".into()));
    }
    let body = GroupBody { name: Some(name.to_owned()), members, became_large: false };
    Ok(join(scene, EventKind::Created, body))
}

fn rename(scene: &mut Scene<'_, '_>, append: &Append, new_name: &str) -> Result<NewEvent, Refusal> {
    require(scene, append, Role::Admin)?;
    let Kind::Group { name, .. } = &mut scene.conversation.kind else { return Err(Refusal::Internal) };
    if name == new_name {
        return Err(Refusal::NoChange("the name is the same".into()));
    }
    *name = new_name.to_owned();
    let body = GroupBody { name: Some(new_name.to_owned()), ..GroupBody::default() };
    Ok(change(EventKind::Renamed, &body, Vec::new(), Audience::Usual))
}

fn add(scene: &mut Scene<'_, '_>, append: &Append, users: &[UserId]) -> Result<NewEvent, Refusal> {
    require(scene, append, Role::Admin)?;
    let mut listed = HashSet::new();
    let members: Vec<GroupMember> = users
        .iter()
        .filter(|user| scene.conversation.member(**user).is_none() && listed.insert(**user))
        .map(|&user| GroupMember { user, role: Role::Member })
        .collect();
    if members.is_empty() {
        return Err(Refusal::NoChange("all of them are members".into()));
    }
    if scene.conversation.member_count + members.len() as u64 > GROUP_MEMBERS_MAX {
        return Err(Refusal::LimitReached("members of a group".into()));
    }
    Ok(join(scene, EventKind::Joined, GroupBody { name: None, members, became_large: false }))
}

/// Makes members of them, with the next event.
fn join(scene: &mut Scene<'_, '_>, kind: EventKind, mut body: GroupBody) -> NewEvent {
    let joined_seq = scene.conversation.last_seq.next();
    for member in &body.members {
        scene.conversation.set_member(member.user, Some(Member::new(member.user, member.role, joined_seq)));
        write(scene, member.user, member.role, joined_seq, None);
    }
    scene.conversation.member_count += body.members.len() as u64;
    let mut audience = Audience::Usual;
    if !scene.conversation.is_large() && scene.conversation.member_count > scene.fanout_limit {
        // All members are remembered here, perhaps for the last time.
        scene.conversation.become_large();
        body.became_large = true;
        audience = Audience::Everybody;
    }
    let joining = body.members.iter().map(|it| Recipient { user: it.user, membership: Membership::Joins }).collect();
    change(kind, &body, joining, audience)
}

fn remove(scene: &mut Scene<'_, '_>, append: &Append, users: &[UserId]) -> Result<NewEvent, Not> {
    let own = require(scene, append, Role::Admin)?;
    if append.authority == Authority::Member && users.contains(&append.sender) {
        return Err(Refusal::Invalid("to go oneself, leave".into()).into());
    }
    let mut listed = HashSet::new();
    let present: Vec<(UserId, Member)> = users
        .iter()
        .filter(|user| listed.insert(**user))
        .filter_map(|&user| Some((user, *scene.conversation.member(user)?)))
        .collect();
    if present.is_empty() {
        return Err(Refusal::NoChange("none of them is a member".into()).into());
    }
    if own < Role::Owner && present.iter().any(|(_, member)| member.role > Role::Member) {
        return Err(Refusal::NotAllowed("an admin removes plain members only".into()).into());
    }
    part(scene, &present)
}

fn leave(scene: &mut Scene<'_, '_>, append: &Append) -> Result<NewEvent, Not> {
    let own = *scene.conversation.member(append.sender).ok_or(Refusal::NotFound)?;
    part(scene, &[(append.sender, own)])
}

/// They are no longer members after the next event. Where no owner would be left, the most senior member becomes one.
fn part(scene: &mut Scene<'_, '_>, gone: &[(UserId, Member)]) -> Result<NewEvent, Not> {
    let left_seq = scene.conversation.last_seq.next();
    let successor = successor(scene, gone)?;
    for (user, member) in gone {
        scene.conversation.set_member(*user, None);
        write(scene, *user, member.role, member.joined_seq, Some(left_seq));
    }
    scene.conversation.member_count = scene.conversation.member_count.saturating_sub(gone.len() as u64);
    let mut members: Vec<GroupMember> =
        gone.iter().map(|&(user, _)| GroupMember { user, role: Role::Member }).collect();
    if let Some((user, joined_seq)) = successor {
        scene.conversation.set_role(user, Role::Owner);
        write(scene, user, Role::Owner, joined_seq, None);
        members.push(GroupMember { user, role: Role::Owner });
    }
    let leaving = gone.iter().map(|&(user, _)| Recipient { user, membership: Membership::Leaves }).collect();
    Ok(change(EventKind::Left, &GroupBody { members, ..GroupBody::default() }, leaving, Audience::Usual))
}

/// Who becomes the owner when these go: nobody where there is another owner, or nobody left.
fn successor(scene: &Scene<'_, '_>, gone: &[(UserId, Member)]) -> Result<Option<(UserId, Seq)>, Not> {
    if gone.iter().all(|(_, member)| member.role != Role::Owner) {
        return Ok(None);
    }
    let stays = |user: UserId| !gone.iter().any(|(it, _)| *it == user);
    let senior = if scene.conversation.is_complete() {
        let present = scene.conversation.present().filter(|(user, _)| stays(*user));
        let by_seniority = |it: &(UserId, &Member)| (std::cmp::Reverse(it.1.role), it.1.joined_seq, it.0);
        present.min_by_key(by_seniority).map(|(user, member)| Senior {
            user,
            role: member.role,
            joined_seq: member.joined_seq,
        })
    } else {
        let seniority = scene.details.seniority(scene.id).ok_or(Not::Known)?;
        seniority.iter().copied().find(|it| stays(it.user))
    };
    Ok(senior.filter(|it| it.role != Role::Owner).map(|it| (it.user, it.joined_seq)))
}

fn set_role(scene: &mut Scene<'_, '_>, append: &Append, user: UserId, role: Role) -> Result<NewEvent, Not> {
    require(scene, append, Role::Owner)?;
    let member = *scene.conversation.member(user).ok_or_else(|| Refusal::Invalid("not a member".into()))?;
    if member.role == role {
        return Err(Refusal::NoChange("the member has this role".into()).into());
    }
    if member.role == Role::Owner && !has_another_owner(scene, append, user)? {
        return Err(Refusal::NotAllowed("a group has an owner: name another first".into()).into());
    }
    scene.conversation.set_role(user, role);
    write(scene, user, role, member.joined_seq, None);
    let body = GroupBody { members: vec![GroupMember { user, role }], ..GroupBody::default() };
    Ok(change(EventKind::RoleChanged, &body, Vec::new(), Audience::Usual))
}

fn has_another_owner(scene: &Scene<'_, '_>, append: &Append, than: UserId) -> Result<bool, Not> {
    // Who may give roles is one.
    if append.authority == Authority::Member && append.sender != than {
        return Ok(true);
    }
    if scene.conversation.is_complete() {
        return Ok(scene.conversation.present().any(|(user, member)| member.role == Role::Owner && user != than));
    }
    let seniority = scene.details.seniority(scene.id).ok_or(Not::Known)?;
    Ok(seniority.iter().any(|it| it.role == Role::Owner && it.user != than))
}

/// The sender's role; refused where it is below.
fn require(scene: &Scene<'_, '_>, append: &Append, least: Role) -> Result<Role, Refusal> {
    if append.authority == Authority::App {
        return Ok(Role::Owner);
    }
    let role = scene.conversation.member(append.sender).ok_or(Refusal::NotFound)?.role;
    if role < least {
        return Err(Refusal::NotAllowed(format!(
            "that takes {}",
            if least == Role::Owner { "an owner" } else { "an admin" }
        )));
    }
    Ok(role)
}

fn write(scene: &mut Scene<'_, '_>, user: UserId, role: Role, joined_seq: Seq, left_seq: Option<Seq>) {
    let (slot, conversation) = (scene.slot, scene.id);
    scene.draft.member(WrittenMember { slot, conversation, user, role, joined_seq, left_seq });
}

fn change(kind: EventKind, body: &GroupBody, changing: Vec<Recipient>, audience: Audience) -> NewEvent {
    NewEvent { kind, body: encode_group(body), target: None, changing, audience }
}
