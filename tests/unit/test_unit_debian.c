/* SPDX-License-Identifier: MIT */
/*
 * Units as Debian 12 ships them, without their comments: each loads, and the warnings are exactly
 * the keys that are not supported.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "conf/unit.h"

struct heard {
	char text[4096];
};

/* Keeps "KEY " of "SOURCE:LINE: KEY= in ...", and the list of those of sandboxing. */
static void hear(void *userdata, const char *text)
{
	struct heard *h = userdata;
	size_t used = strlen(h->text);
	const char *key = strstr(text, ": ");

	assert_non_null(key);
	assert_non_null(strstr(text, "is not supported, ignored"));
	if (strstr(text, "sandboxing")) {
		(void)snprintf(h->text + used, sizeof(h->text) - used, "%s", strrchr(text, ':'));
		return;
	}
	(void)snprintf(h->text + used, sizeof(h->text) - used, "%.*s ", (int)strcspn(key + 2, "="),
		key + 2);
}

static struct unit *load(const char *name, const char *text, const char *unsupported)
{
	struct heard h = {0};
	struct error e = {0};
	struct unit *u = NULL;

	if (unit_parse(&u, name, name, text, strlen(text), hear, &h, &e) != 0)
		fail_msg("%s", e.text);
	assert_string_equal(h.text, unsupported);
	return u;
}

static void nginx(void **state)
{
	(void)state;
	struct unit *u = load("nginx",
		"[Unit]\n"
		"Description=A high performance web server and a reverse proxy server\n"
		"Documentation=man:nginx(8)\n"
		"After=network-online.target remote-fs.target nss-lookup.target\n"
		"Wants=network-online.target\n"
		"\n"
		"[Service]\n"
		"Type=forking\n"
		"PIDFile=/run/nginx.pid\n"
		"ExecStartPre=/usr/sbin/nginx -t -q -g 'daemon on; master_process on;'\n"
		"ExecStart=/usr/sbin/nginx -g 'daemon on; master_process on;'\n"
		"ExecReload=/usr/sbin/nginx -g 'daemon on; master_process on;' -s reload\n"
		"ExecStop=-/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile "
		"/run/nginx.pid\n"
		"TimeoutStopSec=5\n"
		"KillMode=mixed\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n",
		"");

	assert_int_equal(u->type, SERVICE_FORKING);
	assert_string_equal(u->exec_start.items[0].argv[2], "daemon on; master_process on;");
	assert_true(u->exec_stop.items[0].ignore_failure);
	assert_int_equal(u->kill_mode, KILL_MIXED);
	unit_free(u);
}

static void ssh(void **state)
{
	(void)state;
	struct unit *u = load("ssh",
		"[Unit]\n"
		"Description=OpenBSD Secure Shell server\n"
		"Documentation=man:sshd(8) man:sshd_config(5)\n"
		"After=network.target auditd.service\n"
		"ConditionPathExists=!/etc/ssh/sshd_not_to_be_run\n"
		"\n"
		"[Service]\n"
		"EnvironmentFile=-/etc/default/ssh\n"
		"ExecStartPre=/usr/sbin/sshd -t\n"
		"ExecStart=/usr/sbin/sshd -D $SSHD_OPTS\n"
		"ExecReload=/usr/sbin/sshd -t\n"
		"ExecReload=/bin/kill -HUP $MAINPID\n"
		"KillMode=process\n"
		"Restart=on-failure\n"
		"RestartPreventExitStatus=255\n"
		"Type=notify\n"
		"RuntimeDirectory=sshd\n"
		"RuntimeDirectoryMode=0755\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n"
		"Alias=sshd.service\n",
		"");

	assert_int_equal(u->type, SERVICE_NOTIFY);
	assert_int_equal(u->exec_reload.count, 2);
	assert_string_equal(u->directories[DIRECTORY_RUNTIME].names, "sshd");
	unit_free(u);
}

static void haproxy(void **state)
{
	(void)state;
	struct unit *u = load("haproxy",
		"[Unit]\n"
		"Description=HAProxy Load Balancer\n"
		"Documentation=man:haproxy(1)\n"
		"Documentation=file:/usr/share/doc/haproxy/configuration.txt.gz\n"
		"After=network-online.target rsyslog.service\n"
		"Wants=network-online.target\n"
		"\n"
		"[Service]\n"
		"EnvironmentFile=-/etc/default/haproxy\n"
		"EnvironmentFile=-/etc/sysconfig/haproxy\n"
		"BindReadOnlyPaths=/dev/log:/var/lib/haproxy/dev/log\n"
		"Environment=\"CONFIG=/etc/haproxy/haproxy.cfg\" \"PIDFILE=/run/haproxy.pid\" "
		"\"EXTRAOPTS=-S /run/haproxy-master.sock\"\n"
		"ExecStart=/usr/sbin/haproxy -Ws -f $CONFIG -p $PIDFILE $EXTRAOPTS\n"
		"ExecReload=/usr/sbin/haproxy -Ws -f $CONFIG -c $EXTRAOPTS\n"
		"ExecReload=/bin/kill -USR2 $MAINPID\n"
		"KillMode=mixed\n"
		"Restart=always\n"
		"SuccessExitStatus=143\n"
		"Type=notify\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n",
		"BindReadOnlyPaths ");
	char **argv;

	assert_int_equal(strings_count(u->environment_files), 2);
	assert_int_equal(command_expand(&u->exec_start.items[0], u->environment, &argv), 0);
	assert_int_equal(strings_count(argv), 8);
	assert_string_equal(argv[3], "/etc/haproxy/haproxy.cfg");
	assert_string_equal(argv[7], "/run/haproxy-master.sock");
	strings_free(argv);
	unit_free(u);
}

static void redis(void **state)
{
	(void)state;
	struct unit *u = load("redis-server",
		"[Unit]\n"
		"Description=Advanced key-value store\n"
		"After=network.target\n"
		"Documentation=http://redis.io/documentation, man:redis-server(1)\n"
		"\n"
		"[Service]\n"
		"Type=notify\n"
		"ExecStart=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd "
		"--daemonize no\n"
		"PIDFile=/run/redis/redis-server.pid\n"
		"TimeoutStopSec=0\n"
		"Restart=always\n"
		"User=redis\n"
		"Group=redis\n"
		"RuntimeDirectory=redis\n"
		"RuntimeDirectoryMode=2755\n"
		"\n"
		"UMask=007\n"
		"PrivateTmp=true\n"
		"LimitNOFILE=65535\n"
		"PrivateDevices=true\n"
		"ProtectHome=true\n"
		"ProtectSystem=strict\n"
		"ReadWritePaths=-/var/lib/redis\n"
		"ReadWritePaths=-/var/log/redis\n"
		"ReadWritePaths=-/run/redis\n"
		"\n"
		"CapabilityBoundingSet=\n"
		"LockPersonality=true\n"
		"MemoryDenyWriteExecute=true\n"
		"NoNewPrivileges=true\n"
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n"
		"SystemCallFilter=~@privileged @resources\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n"
		"Alias=redis.service\n",
		": PrivateTmp= PrivateDevices= ProtectHome= ProtectSystem= ReadWritePaths= "
		"CapabilityBoundingSet= LockPersonality= MemoryDenyWriteExecute= NoNewPrivileges= "
		"RestrictAddressFamilies= SystemCallFilter=");

	assert_true(u->timeout_stop_usec == UNIT_USEC_INFINITY);
	assert_int_equal(u->umask, 0007);
	assert_true(u->limit_nofile == 65535);
	unit_free(u);
}

static void cron(void **state)
{
	(void)state;
	struct unit *u = load("cron",
		"[Unit]\n"
		"Description=Regular background program processing daemon\n"
		"Documentation=man:cron(8)\n"
		"After=remote-fs.target nss-user-lookup.target\n"
		"\n"
		"[Service]\n"
		"EnvironmentFile=-/etc/default/cron\n"
		"ExecStart=/usr/sbin/cron -f $EXTRA_OPTS\n"
		"IgnoreSIGPIPE=false\n"
		"KillMode=process\n"
		"Restart=on-failure\n"
		"SyslogFacility=cron\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n",
		"SyslogFacility ");

	assert_int_equal(u->restart, RESTART_ON_FAILURE);
	assert_false(u->ignore_sigpipe);
	unit_free(u);
}

static void postgresql(void **state)
{
	(void)state;
	struct unit *u = load("postgresql@15-main",
		"[Unit]\n"
		"Description=PostgreSQL Cluster %i\n"
		"AssertPathExists=/etc/postgresql/%I/postgresql.conf\n"
		"RequiresMountsFor=/etc/postgresql/%I /var/lib/postgresql/%I\n"
		"PartOf=postgresql.service\n"
		"ReloadPropagatedFrom=postgresql.service\n"
		"Before=postgresql.service\n"
		"After=network.target\n"
		"\n"
		"[Service]\n"
		"Type=forking\n"
		"ExecStart=-/usr/bin/pg_ctlcluster --skip-systemctl-redirect %i start\n"
		"TimeoutStartSec=0\n"
		"ExecStop=/usr/bin/pg_ctlcluster --skip-systemctl-redirect -m fast %i stop\n"
		"TimeoutStopSec=1h\n"
		"ExecReload=/usr/bin/pg_ctlcluster --skip-systemctl-redirect %i reload\n"
		"PIDFile=/run/postgresql/%i.pid\n"
		"SyslogIdentifier=postgresql@%i\n"
		"OOMScoreAdjust=-900\n"
		"#Restart=on-failure\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n",
		"PartOf ReloadPropagatedFrom SyslogIdentifier ");

	assert_string_equal(u->name, "postgresql@15-main.service");
	assert_string_equal(u->exec_start.items[0].argv[2], "15-main");
	assert_string_equal(u->pid_file, "/run/postgresql/15-main.pid");
	assert_string_equal(u->mounts_for[0], "/etc/postgresql/15/main");
	assert_string_equal(u->mounts_for[1], "/var/lib/postgresql/15/main");
	assert_null(u->mounts_for[2]);
	assert_true(u->timeout_start_usec == UNIT_USEC_INFINITY);
	assert_true(u->timeout_stop_usec == UINT64_C(3600000000));
	assert_int_equal(u->oom_score_adjust, -900);
	unit_free(u);
}

static void php_fpm(void **state)
{
	(void)state;
	struct unit *u = load("php8.2-fpm",
		"[Unit]\n"
		"Description=The PHP 8.2 FastCGI Process Manager\n"
		"Documentation=man:php-fpm8.2(8)\n"
		"After=network.target\n"
		"\n"
		"[Service]\n"
		"Type=notify\n"
		"ExecStart=/usr/sbin/php-fpm8.2 --nodaemonize --fpm-config "
		"/etc/php/8.2/fpm/php-fpm.conf\n"
		"ExecStartPost=-/usr/lib/php/php-fpm-socket-helper install /run/php/php-fpm.sock "
		"/etc/php/8.2/fpm/pool.d/www.conf 82\n"
		"ExecStopPost=-/usr/lib/php/php-fpm-socket-helper remove /run/php/php-fpm.sock "
		"/etc/php/8.2/fpm/pool.d/www.conf 82\n"
		"ExecReload=/bin/kill -USR2 $MAINPID\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n",
		"");

	assert_int_equal(u->exec_stop_post.count, 1);
	unit_free(u);
}

static void dnsmasq(void **state)
{
	(void)state;
	struct unit *u = load("dnsmasq",
		"[Unit]\n"
		"Description=dnsmasq - A lightweight DHCP and caching DNS server\n"
		"Requires=network.target\n"
		"Wants=nss-lookup.target\n"
		"Before=nss-lookup.target\n"
		"After=network.target\n"
		"\n"
		"[Service]\n"
		"Type=forking\n"
		"PIDFile=/run/dnsmasq/dnsmasq.pid\n"
		"ExecStartPre=/etc/init.d/dnsmasq checkconfig\n"
		"ExecStart=/etc/init.d/dnsmasq systemd-exec\n"
		"ExecStartPost=/etc/init.d/dnsmasq systemd-start-resolvconf\n"
		"ExecStop=/etc/init.d/dnsmasq systemd-stop-resolvconf\n"
		"ExecReload=/bin/kill -HUP $MAINPID\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n",
		"");

	assert_string_equal(u->requires[0], "network.target");
	assert_int_equal(u->kill_signal, SIGTERM);
	unit_free(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nginx),
		cmocka_unit_test(ssh),
		cmocka_unit_test(haproxy),
		cmocka_unit_test(redis),
		cmocka_unit_test(cron),
		cmocka_unit_test(postgresql),
		cmocka_unit_test(php_fpm),
		cmocka_unit_test(dnsmasq),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
