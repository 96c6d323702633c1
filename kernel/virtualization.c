/* SPDX-License-Identifier: MIT */
#include "kernel/virtualization.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernel/util.h"

struct known {
	const char *text;
	const char *name;
};

/* What a vendor or a product begins with. Longer ones first. */
static const struct known dmi_texts[] = {
	{"KVM", "kvm"},
	{"OpenStack", "kvm"},
	{"KubeVirt", "kvm"},
	{"Amazon EC2", "amazon"},
	{"QEMU", "qemu"},
	{"VMware", "vmware"},
	{"VMW", "vmware"},
	{"innotek GmbH", "oracle"},
	{"VirtualBox", "oracle"},
	{"Xen", "xen"},
	{"Bochs", "bochs"},
	{"Parallels", "parallels"},
	{"BHYVE", "bhyve"},
	{"Hyper-V", "microsoft"},
	{"Apple Virtualization", "apple"},
	{"Google Compute Engine", "google"},
};

/* Leaf 0x40000000 of CPUID: each hypervisor's own twelve characters. */
static const struct known signatures[] = {
	{"XenVMMXenVMM", "xen"},
	{"KVMKVMKVM", "kvm"},
	{"Linux KVM Hv", "kvm"}, /* KVM that shows itself as Hyper-V */
	{"TCGTCGTCGTCG", "qemu"},
	{"VMwareVMware", "vmware"},
	{"Microsoft Hv", "microsoft"},
	{"bhyve bhyve ", "bhyve"},
	{"QNXQVMBSQG", "qnx"},
	{"ACRNACRNACRN", "acrn"},
	{"SRESRESRESRE", "sre"},
};

/* What systemd calls them in $container. */
static const char *const containers[] = {"lxc", "lxc-libvirt", "systemd-nspawn", "docker", "podman",
	"rkt", "wsl", "proot", "pouch", "openvz"};

const char *virtualization_of_dmi(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(dmi_texts); i++)
		if (starts_with(text, dmi_texts[i].text))
			return dmi_texts[i].name;
	return NULL;
}

const char *virtualization_of_signature(const char *signature)
{
	for (size_t i = 0; i < ARRAY_SIZE(signatures); i++)
		if (strcmp(signature, signatures[i].text) == 0)
			return signatures[i].name;
	return NULL;
}

/* Whether the processor says that it is a virtual one, and by whom; "" where it does not tell. */
static bool ask_processor(char signature[13])
{
	signature[0] = '\0';
#if defined(__x86_64__)
	unsigned eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1U << 31)))
		return false;
	__cpuid(0x40000000, eax, ebx, ecx, edx);
	memcpy(signature, &ebx, 4);
	memcpy(signature + 4, &ecx, 4);
	memcpy(signature + 8, &edx, 4);
	signature[12] = '\0';
	return true;
#else
	return false;
#endif
}

static const char *ask_dmi(void)
{
	static const char *const FILES[] = {
		"product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"};
	char text[256];
	const char *name = NULL;
	CLEANUP_FD int dmi = open("/sys/class/dmi/id", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; dmi >= 0 && !name && i < ARRAY_SIZE(FILES); i++)
		if (file_read(dmi, FILES[i], text, sizeof(text)) > 0)
			name = virtualization_of_dmi(text);
	return name;
}

/* Of arm64, where there is no DMI: the first is what a hypervisor says of itself. */
static const char *ask_device_tree(void)
{
	char text[256];

	if (file_read(AT_FDCWD, "/proc/device-tree/hypervisor/compatible", text, sizeof(text)) > 0)
		return strcmp(text, "linux,kvm") == 0 ? "kvm"
		       : strstr(text, "xen")          ? "xen"
		       : strstr(text, "vmware")       ? "vmware"
						      : "vm-other";
	if (access("/proc/device-tree/fw-cfg@9020000", F_OK) == 0)
		return "qemu";
	return NULL;
}

static const char *detect_machine(void)
{
	char signature[13], text[64];
	bool virtual = ask_processor(signature);
	const char *dmi = ask_dmi(), *name;

	/* Those have a hypervisor of somebody else below them, and are known by their firmware. */
	if (dmi && (strcmp(dmi, "oracle") == 0 || strcmp(dmi, "amazon") == 0 ||
			   strcmp(dmi, "google") == 0 || strcmp(dmi, "parallels") == 0))
		return dmi;
	name = virtualization_of_signature(signature);
	if (name)
		return name;
	/* The domain that the others are run from sees it as well, and has the hardware. */
	if (file_read(AT_FDCWD, "/sys/hypervisor/type", text, sizeof(text)) > 0 &&
		starts_with(text, "xen"))
		return file_read(AT_FDCWD, "/proc/xen/capabilities", text, sizeof(text)) > 0 &&
				       strstr(text, "control_d")
			       ? NULL
			       : "xen";
	if (dmi)
		return dmi;
	name = ask_device_tree();
	return name ? name : virtual ? "vm-other" : NULL;
}

/* Whoever starts a container tells its init so, by $container; these do not always. */
static const char *detect_container(void)
{
	char text[64];
	const char *told = getenv("container");

	if (!told || !*told) {
		if (file_read(AT_FDCWD, "/run/host/container-manager", text, sizeof(text)) > 0) {
			text[strcspn(text, "\n")] = '\0';
			told = text;
		} else if (access("/run/.containerenv", F_OK) == 0) {
			told = "podman";
		} else if (access("/.dockerenv", F_OK) == 0) {
			told = "docker";
		} else {
			return NULL;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(containers); i++)
		if (strcmp(told, containers[i]) == 0)
			return containers[i];
	return "container-other";
}

void virtualization_detect(struct virtualization *ret)
{
	*ret = (struct virtualization){
		.machine = detect_machine(), .container = detect_container()};
}

bool virtualization_is(const struct virtualization *v, const char *value)
{
	const char *name = v->container ? v->container : v->machine;

	if (strcmp(value, "container") == 0)
		return v->container;
	if (strcmp(value, "vm") == 0)
		return !v->container && v->machine;
	return name && strcmp(value, name) == 0;
}
