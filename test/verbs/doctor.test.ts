import { describe, expect, test } from 'bun:test';
import { constants } from 'node:os';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { ExitCode } from '../../src/errors.ts';
import {
  callFailure,
  completionFailure,
  completionStatusName,
  diagnose,
  errnoName,
  explainCompletion,
  VerbsError,
} from '../../src/verbs/doctor.ts';
import { RULES } from '../../src/verbs/doctor-rules.ts';
import { Evidence, FACT_NAMES, type Machine } from '../../src/verbs/evidence.ts';

const LIMITS = `Limit                     Soft Limit           Hard Limit           Units
Max locked memory         65536                unlimited            bytes
Max open files            1024                 1048576              files
`;

/** A machine as its files describe it. */
function machine(parts: {
  files?: Record<string, string>;
  folders?: Record<string, string[]>;
  open?: string[];
  shmFree?: number;
}): Machine {
  return {
    read: (path) => parts.files?.[path],
    list: (path) => parts.folders?.[path],
    mayOpen: (path) => parts.open?.includes(path) ?? false,
    freeBytes: () => parts.shmFree,
    uid: 1000,
  };
}

const bare = new Evidence(machine({}));

describe('evidence', () => {
  test('that cannot be read is left out, never an error', () => {
    for (const name of FACT_NAMES) expect(() => new Evidence(machine({})).fact(name)).not.toThrow();
    expect(new Evidence(machine({})).sentences(['memlock', 'memory'])).toEqual([]);
  });

  test('reads limits', () => {
    const evidence = new Evidence(
      machine({ files: { '/proc/self/limits': LIMITS }, folders: { '/proc/self/fd': ['0', '1'] } }),
    );
    expect(evidence.fact('memlock')).toEqual({
      text: 'the locked-memory limit (ulimit -l) is 64 KiB, hard limit unlimited',
      value: 65536,
    });
    expect(evidence.fact('openFiles')).toEqual({
      text: '2 of 1024 file descriptors are open (ulimit -n)',
      value: 1022,
    });
  });

  test('tells closed device nodes from absent ones', () => {
    const nodes = { '/dev/infiniband': ['rdma_cm', 'uverbs0'] };
    expect(new Evidence(machine({})).fact('deviceNodes')?.text).toBe('/dev/infiniband does not exist');
    expect(new Evidence(machine({ folders: nodes })).fact('deviceNodes')?.text).toContain(
      'uverbs0, closed to uid 1000',
    );
    const open = machine({ folders: nodes, open: ['/dev/infiniband/uverbs0'] });
    expect(new Evidence(open).fact('deviceNodes')).toEqual({
      text: '/dev/infiniband has uverbs0, open to this user',
      value: 1,
    });
  });

  test('reads modules, memory and interfaces', () => {
    const evidence = new Evidence(
      machine({
        files: {
          '/proc/modules': 'ib_uverbs 1 0 - Live 0x0\next4 1 0 - Live 0x0\nrdma_rxe 1 0 - Live 0x0\n',
          '/proc/meminfo': 'MemAvailable:    2048 kB\nHugePages_Total:       8\nHugePages_Free:        3\n',
          '/sys/class/net/eth0/operstate': 'down\n',
          '/sys/class/net/lo/operstate': 'unknown\n',
        },
        folders: { '/sys/class/net': ['eth0', 'lo'] },
      }),
    );
    expect(evidence.fact('modules')?.text).toBe('loaded modules: ib_uverbs, rdma_rxe');
    expect(evidence.fact('memory')?.value).toBe(2 << 20);
    expect(evidence.fact('hugePages')?.text).toContain('3 of 8');
    expect(evidence.fact('interfaces')).toEqual({ text: 'interfaces: eth0 down, lo unknown', value: 1 });
    expect(evidence.fact('rxe')?.value).toBe(1);
  });

  test('is read once', () => {
    let reads = 0;
    const counting: Machine = {
      ...machine({}),
      read: () => {
        reads++;
        return LIMITS;
      },
    };
    const evidence = new Evidence(counting);
    evidence.fact('memlock');
    evidence.fact('memlock');
    expect(reads).toBe(1);
  });
});

describe('the table', () => {
  test('has one rule for every completion status of the header', () => {
    for (const name of Object.keys(ENUMS.ibv_wc_status)) {
      expect(RULES.filter(({ codes }) => codes.includes(name))).toHaveLength(1);
    }
  });

  test('names only codes that exist', () => {
    const known = new Set([
      ...Object.keys(constants.errno),
      ...Object.keys(ENUMS.ibv_wc_status),
      'EAI_NONAME',
      'EAI_AGAIN',
      'ENOTFOUND',
    ]);
    const upper = RULES.flatMap(({ codes }) => codes).filter((code) => /^[A-Z]/.test(code));
    expect(upper.filter((code) => !known.has(code))).toEqual([]);
  });

  test('has no rule that an earlier one always hides', () => {
    RULES.forEach((rule, at) => {
      const hidden = rule.codes.every((code) =>
        RULES.slice(0, at).some(
          (earlier) =>
            earlier.codes.includes(code) &&
            earlier.when === undefined &&
            (earlier.calls === undefined ||
              (rule.calls?.every((call) => earlier.calls?.includes(call)) ?? false)),
        ),
      );
      expect({ rule: rule.codes, calls: rule.calls, hidden }).toMatchObject({ hidden: false });
    });
  });

  test('says something in every cell', () => {
    for (const { cause, remedy, kind, look } of RULES) {
      expect(cause.length).toBeGreaterThan(10);
      expect(remedy.length).toBeGreaterThan(3);
      expect(Object.keys(ExitCode)).toContain(kind);
      for (const name of look ?? []) expect(FACT_NAMES).toContain(name);
    }
  });

  test('covers what verbs calls are documented to return', () => {
    const documented = [
      'ENOMEM',
      'EINVAL',
      'EPERM',
      'EACCES',
      'EAGAIN',
      'EBUSY',
      'EFAULT',
      'ENOSYS',
      'EOPNOTSUPP',
      'ENODEV',
    ];
    for (const code of [...documented, 'EIO', 'ETIMEDOUT', 'ENOSPC', 'EMFILE', 'EBADF']) {
      expect(diagnose({ call: 'ibv_create_qp', code }, bare).cause).not.toContain('no explanation');
    }
  });
});

describe('diagnoses', () => {
  const small = new Evidence(machine({ files: { '/proc/self/limits': LIMITS } }));

  test('blame the memlock limit only when it is too small', () => {
    const large = diagnose(
      { call: 'ibv_reg_mr', code: 'ENOMEM', bytes: 1 << 20, attempt: 'register 1 MiB' },
      small,
    );
    expect(large.what).toBe('cannot register 1 MiB: ENOMEM');
    expect(large.remedy).toStartWith('ulimit -l unlimited');
    expect(large.evidence).toEqual(['the locked-memory limit (ulimit -l) is 64 KiB, hard limit unlimited']);
    const tiny = diagnose({ call: 'ibv_reg_mr', code: 'ENOMEM', bytes: 4096 }, small);
    expect(tiny.remedy).not.toContain('ulimit -l unlimited');
  });

  test('blame a full /dev/shm when it is', () => {
    const full = new Evidence(machine({ shmFree: 1 << 20 }));
    expect(diagnose({ call: 'ibv_create_qp', code: 'ENOMEM' }, full).remedy).toContain('/dev/shm');
    const roomy = new Evidence(machine({ shmFree: 1 << 30 }));
    expect(diagnose({ call: 'ibv_create_qp', code: 'ENOMEM' }, roomy).remedy).not.toContain('/dev/shm');
  });

  test('know the step of a failed transition', () => {
    const rtr = diagnose({ call: 'INIT -> RTR', code: 'EINVAL', details: ['port 1 is ACTIVE'] }, bare);
    expect(rtr.cause).toContain('GID index');
    expect(rtr.evidence).toEqual(['port 1 is ACTIVE']);
    expect(diagnose({ call: 'RTR -> RTS', code: 'EINVAL' }, bare).cause).toContain('retry count');
    expect(diagnose({ call: 'INIT -> RTR', code: 'ETIMEDOUT' }, bare).remedy).toContain('ip neigh');
  });

  test('admit it when there is no rule', () => {
    const unknown = diagnose({ call: 'ibv_reg_mr', code: 'errno 9999' }, bare);
    expect(unknown.cause).toContain('no explanation');
    expect(unknown.code).toBe('errno 9999');
  });

  test('become errors with exit code, cause and remedy', () => {
    const error = callFailure('ibv_open_device', 13, { attempt: 'open device rxe0' });
    expect(error).toBeInstanceOf(VerbsError);
    expect(error.message).toBe('cannot open device rxe0: EACCES');
    expect(error.exitCode).toBe(ExitCode.environment);
    expect(error.code).toBe('EACCES');
    expect(error.remedy).toContain('/dev/infiniband');
    expect(completionFailure('IBV_WC_RETRY_EXC_ERR').exitCode).toBe(ExitCode.peer);
  });

  test('of completions name status and vendor error', () => {
    const diagnosis = explainCompletion(
      ENUMS.ibv_wc_status.IBV_WC_RNR_RETRY_EXC_ERR,
      0x8f,
      ['message 7'],
      bare,
    );
    expect(diagnosis.what).toBe('a work request ended with IBV_WC_RNR_RETRY_EXC_ERR');
    expect(diagnosis.cause).toContain('no receive posted');
    expect(diagnosis.evidence).toEqual(['message 7', 'vendor error 0x8f']);
    expect(explainCompletion(250, 0, [], bare).what).toContain('IBV_WC status 250');
  });
});

test('names of errno and status', () => {
  expect(errnoName(12)).toBe('ENOMEM');
  expect(errnoName(-95)).toBe('EOPNOTSUPP');
  expect(errnoName(11)).toBe('EAGAIN');
  expect(errnoName(4095)).toBe('errno 4095');
  expect(completionStatusName(12)).toBe('IBV_WC_RETRY_EXC_ERR');
});
