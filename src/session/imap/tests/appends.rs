//! MULTIAPPEND of many messages (RFC 3502): taken up to its bound and refused in words beyond, and the next command is understood.

use super::*;

/// One command of so many messages; every `asked`-th literal waits to be asked for.
async fn append(client: &mut Client, count: usize, asked: usize) -> Vec<String> {
    client.send("a APPEND INBOX").await;
    let mut heard = Vec::new();
    for n in 0..count {
        // As long a head as a mail program writes: a thousand are more than a line may be.
        let head = " (\\Seen \\Flagged $Forwarded $MDNSent NonJunk) \"17-Jul-2026 02:44:25 +0200\"";
        let body = format!("Subject: {n}\r\n\r\n{n}\r\n");
        if n % asked == 0 {
            client.send(&format!("{head} {{{}}}\r\n", body.len())).await;
            let line = client.line().await;
            if line != "+ OK" {
                heard.push(line);
                return heard;
            }
            client.send(&body).await;
        } else {
            client.send(&format!("{head} {{{}+}}\r\n{body}", body.len())).await;
        }
    }
    client.send("\r\n").await;
    loop {
        let line = client.line().await;
        let ended = line.starts_with("a ") || line.starts_with('(');
        heard.push(line);
        if ended {
            return heard;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_messages_in_one_command() {
    for (count, asked, want) in [
        (300, 1, "a OK [APPENDUID 101 1:300] Append completed"),
        (300, 7, "a OK [APPENDUID 101 1:300] Append completed"),
        (300, 1000, "a OK [APPENDUID 101 1:300] Append completed"),
        (1000, 1, "a OK [APPENDUID 101 1:1000] Append completed"),
        (1000, 1001, "a OK [APPENDUID 101 1:1000] Append completed"),
        (1001, 1, "a NO [LIMIT] Too many messages in one command"),
        (1500, 2000, "a NO [LIMIT] Too many messages in one command"),
        (1500, 999, "a NO [LIMIT] Too many messages in one command"),
    ] {
        let bench = Bench::new();
        let mut client = bench.selected("INBOX").await;
        let heard = append(&mut client, count, asked).await;
        assert_eq!(heard.last().map(String::as_str), Some(want), "{count} {asked}");
        let inbox = bench.account.mailbox("INBOX").now();
        assert_eq!(inbox.messages.len() as usize, if want.contains("OK") { count } else { 0 }, "{count} {asked}");
        // Nothing of it is taken for a command.
        let lines = client.command("b", "STATUS INBOX (MESSAGES)").await;
        assert_eq!(lines.last().map(String::as_str), Some("b OK Status completed"), "{count} {asked}");
    }
}
