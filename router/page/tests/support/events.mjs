// Short ways to write events, for the tests.

export const ME = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
export const ANA = "01BX5ZZKBKACTAV9WEVGEMMVRZ";
export const BRUNO = "01CX5ZZKBKACTAV9WEVGEMMVRZ";
export const CONVERSATION = "01DX5ZZKBKACTAV9WEVGEMMVRZ";
export const MINUTE_MS = 60_000;

function event(seq, kind, fields) {
  const common = { id: `E${seq}`, conversation_id: CONVERSATION, seq, message_no: seq, kind, sender_id: ANA };
  return { ...common, created_at_ms: seq * MINUTE_MS, temp_id: `t${seq}`, ...fields };
}

const about = (seq) => ({ message_id: `E${seq}`, message_seq: seq });

export const message = (seq, fields = {}) => event(seq, "message", { content: `text ${seq}`, ...fields });
export const edit = (seq, of, content, fields = {}) => event(seq, "edit", { ...about(of), content, ...fields });
export const deletion = (seq, of, fields = {}) => event(seq, "delete", { ...about(of), ...fields });
export const reaction = (seq, of, emoji, change = "add", fields = {}) =>
  event(seq, "reaction", { ...about(of), emoji, change, ...fields });
export const group = (seq, kind, fields) => event(seq, kind, fields);

export const row = (fields) => ({
  conversation_id: CONVERSATION,
  kind: "group",
  joined_seq: 1,
  last_seq: 1,
  last_event_id: "E1",
  last_at_ms: MINUTE_MS,
  last_message_no: 1,
  read_seq: 0,
  unread: 0,
  others_delivered_seq: 0,
  others_read_seq: 0,
  ...fields,
});

export const seqs = (events) => events.map((it) => it.seq);
