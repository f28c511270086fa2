use super::*;

#[test]
fn a_frame_is_the_envelope_itself_or_a_list() {
    let push = Outbound::Push(Push::GoAway(GoAway { retry_after_ms: 1 }));
    for format in Format::ALL {
        let envelope = encode(format, &push);
        let mut frame = FrameBuilder::new(format, 1 << 16);
        assert!(frame.is_empty() && frame.finish().is_empty());
        frame.push(&envelope);
        assert_eq!(frame.finish(), envelope);
        for _ in 0..3 {
            frame.push(&envelope);
        }
        assert_eq!(decode_outbound(format, &frame.finish()).unwrap(), vec![push.clone(); 3]);
        assert!(frame.is_empty());
    }
}

#[test]
fn a_list_stays_within_its_bounds() {
    for format in Format::ALL {
        let mut envelope = Vec::new();
        encode_push(format, &Push::GoAway(GoAway { retry_after_ms: 1 }), &mut envelope);
        let max_bytes = envelope.len() * 2 + 5;
        let mut frame = FrameBuilder::new(format, max_bytes);
        assert!(frame.fits(1 << 20), "a big envelope still gets a frame of its own");
        while frame.fits(envelope.len()) {
            frame.push(&envelope);
        }
        assert_eq!(frame.len(), 2);
        assert!(frame.finish().len() <= max_bytes);

        let mut frame = FrameBuilder::new(format, usize::MAX);
        while frame.fits(envelope.len()) {
            frame.push(&envelope);
        }
        assert_eq!(frame.len(), CLIENT_FRAME_ENVELOPES);
    }
}

#[test]
fn subprotocols_name_the_formats() {
    for format in Format::ALL {
        assert_eq!(Format::from_subprotocol(format.subprotocol()), Some(format));
    }
    assert_eq!(Format::from_subprotocol("tertulia.v2.json"), None);
}
