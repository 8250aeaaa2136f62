#!/usr/bin/python3
"""Two processes through Debian's pyverbs: device, PD, MR, CQ, QP transitions, then SEND, WRITE, READ, atomics, each checked.

usage: verbs.py DEVICE GID_INDEX PORT [HOST]
"""
import json
import socket
import sys
import time

import pyverbs.enums as e
from pyverbs.addr import AHAttr, GID, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context, get_device_list
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

SIZE = 65536
ACCESS = (e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ | e.IBV_ACCESS_REMOTE_ATOMIC)


def connect(port, host):
    if host:
        return socket.create_connection((host, port))
    with socket.create_server(('', port)) as listener:
        return listener.accept()[0]


def poll(cq, what):
    deadline = time.monotonic() + 10
    while True:
        count, completions = cq.poll(1)
        if count:
            assert completions[0].status == e.IBV_WC_SUCCESS, f'{what}: status {completions[0].status}'
            return completions[0]
        assert time.monotonic() < deadline, f'{what}: no completion'


def main():
    device, gid_index, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    host = sys.argv[4] if len(sys.argv) > 4 else None
    assert device in [d.name.decode() for d in get_device_list()], f'{device} is not listed'
    peer_socket = connect(port, host)
    lines = peer_socket.makefile('r')

    def exchange(value):
        peer_socket.sendall((json.dumps(value) + '\n').encode())
        return json.loads(lines.readline())

    context = Context(name=device)
    attributes = context.query_device()
    assert attributes.max_qp > 0 and context.query_port(1).state == e.IBV_PORT_ACTIVE
    pd = PD(context)
    memory = MR(pd, SIZE, ACCESS)
    cq = CQ(context, 32)
    qp = QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap(16, 16, 1, 1)))

    mine = {'qpn': qp.qp_num, 'rkey': memory.rkey, 'address': memory.buf, 'gid': str(context.query_gid(1, gid_index).gid)}
    peer = exchange(mine)
    attr = QPAttr(port_num=1)
    attr.qp_access_flags = ACCESS
    qp.to_init(attr)
    route = GlobalRoute(dgid=GID(peer['gid']), sgid_index=gid_index)
    attr.ah_attr = AHAttr(port_num=1, is_global=1, gr=route)
    attr.dest_qp_num = peer['qpn']
    attr.path_mtu = e.IBV_MTU_1024
    attr.rq_psn = attr.sq_psn = 0x1234
    attr.max_rd_atomic = attr.max_dest_rd_atomic = 4
    attr.min_rnr_timer = 12
    attr.timeout, attr.retry_cnt, attr.rnr_retry = 17, 7, 7
    qp.to_rts(attr)
    assert qp.query(e.IBV_QP_STATE)[0].qp_state == e.IBV_QPS_RTS
    qp.post_recv(RecvWR(num_sge=1, sg=[SGE(memory.buf, 1024, memory.lkey)]))
    exchange('ready')

    def post(opcode, length, offset=0, remote=0, **atomic):
        sge = SGE(memory.buf + offset, length, memory.lkey)
        wr = SendWR(opcode=opcode, num_sge=1, sg=[sge], send_flags=e.IBV_SEND_SIGNALED)
        if opcode in (e.IBV_WR_ATOMIC_FETCH_AND_ADD, e.IBV_WR_ATOMIC_CMP_AND_SWP):
            wr.set_wr_atomic(peer['rkey'], peer['address'] + remote, atomic['add'], atomic.get('swap', 0))
        elif opcode != e.IBV_WR_SEND:
            wr.set_wr_rdma(peer['rkey'], peer['address'] + remote)
        qp.post_send(wr)
        poll(cq, f'opcode {opcode}')

    if host:
        memory.write('hello over send' + ' ' * 49, 64)
        post(e.IBV_WR_SEND, 64)
        exchange('sent')
        pattern = ''.join(chr(33 + i * 7 % 90) for i in range(32768))
        memory.write(pattern, 32768)
        post(e.IBV_WR_RDMA_WRITE, 32768, remote=1024)
        memory.write('\0' * 32768, 32768)
        post(e.IBV_WR_RDMA_READ, 32768, remote=1024)
        assert memory.read(32768, 0).decode() == pattern, 'what was read is not what was written'
        memory.write((5).to_bytes(8, 'little').decode('latin-1'), 8)
        post(e.IBV_WR_RDMA_WRITE, 8, remote=40960)
        post(e.IBV_WR_ATOMIC_FETCH_AND_ADD, 8, remote=40960, add=3)
        assert int.from_bytes(memory.read(8, 0), 'little') == 5, 'fetch and add'
        post(e.IBV_WR_ATOMIC_CMP_AND_SWP, 8, remote=40960, add=8, swap=70)
        assert int.from_bytes(memory.read(8, 0), 'little') == 8, 'compare and swap'
        exchange('done')
    else:
        got = poll(cq, 'receive')
        assert got.opcode == e.IBV_WC_RECV and got.byte_len == 64
        assert memory.read(15, 0) == b'hello over send'
        exchange('received')
        exchange('done')
        assert int.from_bytes(memory.read(8, 40960), 'little') == 70, 'the atomics did not arrive'
    qp.close()
    memory.close()
    print('all verified')


main()
