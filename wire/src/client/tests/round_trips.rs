use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{0,40}", any::<String>()]
}

fn user() -> impl Strategy<Value = UserId> {
    any::<u128>().prop_map(UserId::from_u128)
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    any::<u128>().prop_map(ConversationId::from_u128)
}

fn seq() -> impl Strategy<Value = Seq> {
    any::<u64>().prop_map(Seq::new)
}

prop_compose! {
    fn a_send()(
        conversation_id in option::of(conversation()), to in option::of(user()), temp_id in text(),
        content in option::of(text()), sealed in option::of((text(), text(), text(), text(), text())),
        reply_to in option::of(any::<u128>().prop_map(EventId::from_u128)),
    ) -> SendMessage {
        let (ciphertext, nonce, tag, key_version, algorithm) = match sealed {
            Some((c, n, t, k, a)) => (Some(c), Some(n), Some(t), Some(k), Some(a)),
            None => (None, None, None, None, None),
        };
        SendMessage {
            conversation_id, to, temp_id, content, ciphertext, nonce, tag, key_version, algorithm, reply_to,
            ..SendMessage::default()
        }
    }
}

fn a_command() -> impl Strategy<Value = Command> {
    let hello = (option::of(text()), text(), text(), option::of(any::<u64>().prop_map(Rev::new)))
        .prop_map(|(token, platform, version, rev)| Hello { token, client: ClientInfo { platform, version }, rev });
    let history = (conversation(), option::of(seq()), option::of(seq()), option::of(any::<u32>())).prop_map(
        |(conversation_id, after_seq, before_seq, limit)| HistoryQuery {
            conversation_id,
            after_seq,
            before_seq,
            limit,
        },
    );
    prop_oneof![
        hello.prop_map(Command::Hello),
        Just(Command::Ping),
        a_send().prop_map(Command::Send),
        (any::<u64>(), option::of(any::<u32>()))
            .prop_map(|(rev, limit)| Command::Sync(SyncQuery { rev: Rev::new(rev), limit })),
        history.prop_map(Command::History),
        prop::collection::vec(user(), 0..5).prop_map(|user_ids| Command::Profiles(ProfileQuery { user_ids })),
        prop::sample::select(super::samples::commands()),
    ]
}

prop_compose! {
    fn an_event()(
        ids in any::<[u128; 3]>(), seq in seq(), message_no in any::<u64>(), created_at_ms in any::<i64>(),
        temp_id in text(), content in option::of(text()), ciphertext in option::of(text()),
    ) -> Event {
        let nonce = ciphertext.clone();
        Event {
            id: EventId::from_u128(ids[0]), conversation_id: ConversationId::from_u128(ids[1]),
            sender_id: UserId::from_u128(ids[2]), seq, message_no: MessageNo::new(message_no), created_at_ms, temp_id,
            content, ciphertext, nonce, ..event()
        }
    }
}

fn a_reply() -> impl Strategy<Value = Reply> {
    let profile = || {
        (user(), option::of(text())).prop_map(|(user_id, name)| Profile {
            user_id,
            name,
            avatar_url: None,
            shares_presence: None,
        })
    };
    let welcome = (profile(), any::<u128>(), any::<u64>()).prop_map(|(user, session, rev)| {
        let limits = SessionLimits {
            frame_bytes: 1,
            frame_envelopes: 2,
            content_bytes: 3,
            ciphertext_bytes: 4,
            temp_id_bytes: 5,
            commands_in_flight: 6,
        };
        Reply::Welcome(Welcome {
            user,
            session_id: SessionId::from_u128(session),
            rev: Rev::new(rev),
            in_large_group: false,
            ping_interval_ms: 25_000,
            limits,
        })
    });
    let row = (conversation(), option::of(user()), seq(), any::<u128>(), any::<i64>(), any::<u64>()).prop_map(
        |(conversation_id, peer_id, last_seq, event, last_at_ms, unread)| ConversationRow {
            conversation_id,
            kind: ConversationKind::Direct,
            peer_id,
            name: None,
            joined_seq: Seq::new(1),
            left_seq: None,
            last_seq,
            last_event_id: EventId::from_u128(event),
            last_at_ms,
            last_message_no: MessageNo::new(unread),
            read_seq: last_seq,
            unread,
            others_delivered_seq: last_seq,
            others_read_seq: last_seq,
        },
    );
    prop_oneof![
        welcome,
        Just(Reply::Pong),
        (text(), an_event()).prop_map(|(temp_id, message)| Reply::Ack(Ack { temp_id, message })),
        (prop::collection::vec(row, 0..4), any::<u64>(), any::<[bool; 2]>()).prop_map(|(conversations, rev, flags)| {
            Reply::SyncPage(SyncPage {
                conversations,
                rev: Rev::new(rev),
                has_more: flags[0],
                reset: flags[1],
                unread_total: rev,
            })
        }),
        (conversation(), prop::collection::vec(an_event(), 0..4), seq()).prop_map(
            |(conversation_id, events, last_seq)| {
                Reply::HistoryPage(HistoryPage { conversation_id, events, has_more: true, last_seq })
            }
        ),
        prop::collection::vec(profile(), 0..4).prop_map(|users| Reply::Profiles(ProfileList { users })),
        (text(), option::of(any::<u64>())).prop_map(|(message, retry_after_ms)| {
            Reply::Error(ErrorReply { retry_after_ms, ..ErrorReply::new(ErrorCode::Unavailable, message) })
        }),
        prop::sample::select(super::samples::replies()),
    ]
}

fn an_outbound() -> impl Strategy<Value = Outbound> {
    prop_oneof![
        (option::of(any::<u64>()), a_reply()).prop_map(|(id, reply)| Outbound::Reply { id, reply }),
        an_event().prop_map(|message| Outbound::Push(Push::New(NewMessage { message }))),
        Just(Outbound::Push(Push::Resync(Resync { reason: ResyncReason::Overflow }))),
        any::<u64>().prop_map(|retry_after_ms| Outbound::Push(Push::GoAway(GoAway { retry_after_ms }))),
        prop::sample::select(super::samples::pushes()).prop_map(Outbound::Push),
    ]
}

proptest! {
    #[test]
    fn commands_come_back_as_they_were(commands in prop::collection::vec((any::<u64>(), a_command()), 1..8)) {
        let borrowed: Vec<_> = commands.iter().map(|(id, command)| (*id, command)).collect();
        for format in Format::ALL {
            let decoded = decode_commands(format, &encode_commands(format, &borrowed)).unwrap();
            let want: Vec<_> = commands.iter().cloned()
                .map(|(id, command)| DecodedCommand { id: Some(id), command: Ok(command) }).collect();
            prop_assert_eq!(decoded, want);
        }
    }

    #[test]
    fn replies_and_pushes_come_back_as_they_were(outbounds in prop::collection::vec(an_outbound(), 1..20)) {
        for format in Format::ALL {
            let mut frame = FrameBuilder::new(format, usize::MAX);
            for outbound in &outbounds {
                frame.push(&encode(format, outbound));
            }
            prop_assert_eq!(&decode_outbound(format, &frame.finish()).unwrap(), &outbounds);
        }
    }

    #[test]
    fn random_bytes_are_refused_or_read_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in Format::ALL {
            let _ = decode_commands(format, &bytes);
            let _ = decode_outbound(format, &bytes);
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_read_but_never_panic(
        command in a_command(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        for format in Format::ALL {
            let mut frame = encode_commands(format, &[(1, &command)]);
            let index = at.index(frame.len());
            frame[index] = byte;
            let _ = decode_commands(format, &frame);
            let whole = encode_commands(format, &[(1, &command)]);
            prop_assert!(decode_commands(format, &whole[..cut.index(whole.len())]).is_err(), "a prefix is no frame");
        }
    }
}
