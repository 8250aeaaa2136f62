import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Random;

/** NioEcho serve PORT | ask HOST PORT: non-blocking channels and a selector; the client checks what comes back. */
public final class NioEcho {
    private static final int MESSAGES = 500;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) serve(Integer.parseInt(args[1]));
        else ask(args[1], Integer.parseInt(args[2]));
    }

    private static void serve(int port) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open().bind(new InetSocketAddress(port));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        for (;;) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = listener.accept();
                    channel.configureBlocking(false);
                    channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(1 << 16));
                    continue;
                }
                SocketChannel channel = (SocketChannel) key.channel();
                ByteBuffer buffer = (ByteBuffer) key.attachment();
                if (key.isReadable() && channel.read(buffer) < 0) {
                    channel.close();
                    continue;
                }
                buffer.flip();
                channel.write(buffer);
                key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
                buffer.compact();
            }
            selector.selectedKeys().clear();
        }
    }

    private static void ask(String host, int port) throws Exception {
        Random chance = new Random(1);
        SocketChannel channel = SocketChannel.open(new InetSocketAddress(host, port));
        channel.configureBlocking(false);
        Selector selector = Selector.open();
        SelectionKey key = channel.register(selector, 0);
        int[] sizes = {1, 64, 1000, 30_000, 200_000};
        for (int i = 0; i < MESSAGES; i++) {
            byte[] sent = new byte[sizes[i % sizes.length]];
            chance.nextBytes(sent);
            ByteBuffer out = ByteBuffer.wrap(sent);
            ByteBuffer in = ByteBuffer.allocate(sent.length);
            while (in.hasRemaining()) {
                key.interestOps(SelectionKey.OP_READ | (out.hasRemaining() ? SelectionKey.OP_WRITE : 0));
                selector.select();
                selector.selectedKeys().clear();
                if (out.hasRemaining()) channel.write(out);
                if (channel.read(in) < 0) throw new IllegalStateException("the server has gone");
            }
            if (!Arrays.equals(sent, in.array())) throw new IllegalStateException("other bytes came back");
        }
        channel.close();
        System.out.println(MESSAGES + " messages came back");
    }
}
