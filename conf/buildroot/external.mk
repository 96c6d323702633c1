include $(sort $(wildcard $(BR2_EXTERNAL_MOLT_PATH)/package/*/*.mk))
