//! A TFTP client as firmware is one (RFC 1350, 2348, 7440): `tftp_get HOST:PORT FILE BLOCK WINDOW`
//! reads a file and prints bytes per second. It shares no code with the server under test.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, file, block, window] = &args[..] else { bail!("usage: tftp_get HOST:PORT FILE BLOCK WINDOW") };
    let begin = Instant::now();
    let bytes = get(server, file, block, window)?;
    println!("{}", bytes as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}

fn get(server: &str, file: &str, block: &str, window: &str) -> Result<u64> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = vec![0, 1];
    for text in [file, "octet", "blksize", block, "windowsize", window] {
        request.extend(text.bytes());
        request.push(0);
    }
    socket.send_to(&request, server)?;
    let (mut block_bytes, mut window_blocks) = (512, 1);
    let mut packet = vec![0; 65536];
    let (mut next, mut total, mut in_window): (u16, u64, u16) = (1, 0, 0);
    let mut lost = 0;
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet) else {
            lost += 1;
            ensure!(lost < 5, "the server fell silent");
            continue;
        };
        ensure!(length >= 4, "short packet");
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        let acknowledge = |number: u16| {
            let [high, low] = number.to_be_bytes();
            socket.send_to(&[0, 4, high, low], from)
        };
        match packet[1] {
            6 => {
                let words: Vec<&[u8]> = packet[2..length].split(|byte| *byte == 0).collect();
                for pair in words.chunks_exact(2) {
                    let value = std::str::from_utf8(pair[1])?.parse()?;
                    match pair[0].to_ascii_lowercase().as_slice() {
                        b"blksize" => block_bytes = value,
                        b"windowsize" => window_blocks = u16::try_from(value)?,
                        _ => {}
                    }
                }
                acknowledge(0)?;
            }
            3 if number == next => {
                total += length as u64 - 4;
                next = next.wrapping_add(1);
                in_window += 1;
                let last = length - 4 < block_bytes;
                if last || in_window >= window_blocks {
                    in_window = 0;
                    acknowledge(number)?;
                }
                if last {
                    return Ok(total);
                }
            }
            3 => {
                in_window = 0;
                acknowledge(next.wrapping_sub(1))?;
            }
            5 => bail!("the server refused: {}", String::from_utf8_lossy(&packet[4..length])),
            _ => {}
        }
    }
}
